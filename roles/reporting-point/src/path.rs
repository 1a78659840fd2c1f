//! What a request is about.

use http::Method;

use crate::{GROUP, VERSION};

/// What is asked for, as rights are given for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    /// A path that is no resource.
    Path(String),
    /// A resource of our group.
    Resource {
        /// Namespace; none: all of them.
        namespace: Option<String>,
        /// Its plural.
        resource: String,
        /// One of them; none: the list.
        name: Option<String>,
        /// A part of it.
        subresource: Option<String>,
    },
}

impl Wanted {
    /// Reads a path.
    pub(crate) fn read(path: &str) -> Self {
        let other = || Self::Path(path.to_owned());
        let Some(rest) = path.strip_prefix("/apis/").and_then(|rest| rest.strip_prefix(GROUP)) else {
            return other();
        };
        let Some(rest) = rest.strip_prefix('/').and_then(|rest| rest.strip_prefix(VERSION)) else {
            return other();
        };
        let parts: Vec<&str> = rest.split('/').skip(1).collect();
        let resource = |namespace: Option<&str>, rest: &[&str]| match rest {
            [resource, more @ ..] if !resource.is_empty() && more.len() < 3 => Self::Resource {
                namespace: namespace.map(str::to_owned),
                resource: (*resource).to_owned(),
                name: more.first().map(|name| (*name).to_owned()),
                subresource: more.get(1).map(|part| (*part).to_owned()),
            },
            _ => other(),
        };
        match parts.as_slice() {
            ["namespaces", namespace, rest @ ..] if !namespace.is_empty() && !rest.is_empty() => {
                resource(Some(namespace), rest)
            }
            rest => resource(None, rest),
        }
    }

    /// The verb that rights are given for.
    pub(crate) fn verb(&self, method: &Method, watch: bool) -> &'static str {
        let Self::Resource { name, .. } = self else {
            return match *method {
                Method::GET | Method::HEAD => "get",
                Method::POST => "post",
                Method::PUT => "put",
                Method::PATCH => "patch",
                Method::DELETE => "delete",
                _ => "other",
            };
        };
        match *method {
            Method::GET | Method::HEAD if watch => "watch",
            Method::GET | Method::HEAD if name.is_none() => "list",
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if name.is_none() => "deletecollection",
            Method::DELETE => "delete",
            _ => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(namespace: Option<&str>, rest: [Option<&str>; 3]) -> Wanted {
        let [resource, name, subresource] = rest.map(|part| part.map(str::to_owned));
        let namespace = namespace.map(str::to_owned);
        Wanted::Resource { namespace, resource: resource.unwrap(), name, subresource }
    }

    #[test]
    fn resources_are_told_from_other_paths() {
        let base = "/apis/reports.patchtide.dev/v1alpha1";
        let read = |rest: &str| Wanted::read(&format!("{base}{rest}"));
        let snapshots = Some("snapshots");
        assert_eq!(
            read("/namespaces/lab/snapshots/current"),
            resource(Some("lab"), [snapshots, Some("current"), None])
        );
        assert_eq!(read("/namespaces/lab/snapshots"), resource(Some("lab"), [snapshots, None, None]));
        assert_eq!(read("/snapshots"), resource(None, [snapshots, None, None]));
        assert_eq!(
            read("/namespaces/lab/snapshots/current/status"),
            resource(Some("lab"), [snapshots, Some("current"), Some("status")])
        );
        for other in ["", "/", "/namespaces/lab/a/b/c/d", "/namespaces//snapshots/current/x"] {
            assert_eq!(read(other), Wanted::Path(format!("{base}{other}")), "{other}");
        }
        for other in
            ["/", "/apis", "/apis/patchtide.dev/v1alpha1/x", "/apis/reports.patchtide.devx/v1alpha1/y"]
        {
            assert_eq!(Wanted::read(other), Wanted::Path(other.to_owned()));
        }
    }

    #[test]
    fn verbs_are_those_of_kubernetes() {
        let (one, list) = (
            resource(Some("lab"), [Some("snapshots"), Some("current"), None]),
            resource(Some("lab"), [Some("snapshots"), None, None]),
        );
        assert_eq!([one.verb(&Method::GET, false), list.verb(&Method::GET, false)], ["get", "list"]);
        assert_eq!(
            [one.verb(&Method::GET, true), list.verb(&Method::DELETE, false)],
            ["watch", "deletecollection"]
        );
        assert_eq!(Wanted::Path("/apis".to_owned()).verb(&Method::POST, false), "post");
    }
}
