//! The person (or program) for whom the front proxy asks.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::front_proxy::Names;

/// Members of it may do everything in a cluster, and no question is asked about them (as in every extension server).
const MASTERS: &str = "system:masters";

/// Everybody whom the cluster knows, and everybody else.
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";

/// Who asks, as the kube-apiserver authenticated it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Reads what the front proxy says in the headers of its names; none: it names nobody.
    pub(crate) fn of(proxy: &Names, headers: &HeaderMap) -> Option<Self> {
        let first = |names: &[String]| {
            names.iter().find_map(|name| {
                let value = headers.get(name.as_str())?.to_str().ok()?;
                (!value.is_empty()).then(|| value.to_owned())
            })
        };
        let all = |name: &str| {
            let values = headers.get_all(name).iter();
            values.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect::<Vec<_>>()
        };
        let name = first(&proxy.user)?;
        let mut extra = BTreeMap::new();
        for header in headers.keys() {
            for prefix in &proxy.extra {
                let prefix = prefix.to_ascii_lowercase();
                if let Some(key) = header.as_str().strip_prefix(&prefix).filter(|key| !key.is_empty()) {
                    extra.insert(unescaped(key), all(header.as_str()));
                }
            }
        }
        let mut groups: Vec<String> = proxy.group.iter().flat_map(|name| all(name)).collect();
        // As every extension server does: the kube-apiserver's own `system:aggregator` comes without a group.
        let told = groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED);
        if !told && name != ANONYMOUS {
            groups.push(AUTHENTICATED.to_owned());
        }
        Some(Self { name, uid: first(&proxy.uid), groups, extra })
    }

    /// Whether it is a master of the cluster.
    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}

/// Percent-escapes of a key; one that is none stays.
fn unescaped(key: &str) -> String {
    let as_value = key.replace('+', "%2B").replace('&', "%26");
    url::form_urlencoded::parse(format!("k={as_value}").as_bytes())
        .next()
        .map_or_else(|| key.to_owned(), |(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)]) -> Option<User> {
        let one = |name: &str| vec![name.to_owned()];
        let names = Names {
            user: one("X-Remote-User"),
            uid: one("X-Remote-Uid"),
            group: one("X-Remote-Group"),
            extra: one("X-Remote-Extra-"),
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        User::of(&names, &map)
    }

    #[test]
    fn a_user_is_read_with_groups_and_extras() {
        let user = read(&[
            ("x-remote-user", "alice"),
            ("x-remote-uid", "7"),
            ("X-Remote-Group", "one"),
            ("X-Remote-Group", "two"),
            ("X-Remote-Extra-Scopes", "a"),
            ("X-Remote-Extra-Scopes", "b"),
            ("X-Remote-Extra-Acme.com%2fpro+ject", "c"),
            ("X-Forwarded-User", "root"),
        ])
        .unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_deref()), ("alice", Some("7")));
        assert_eq!(user.groups, ["one", "two", AUTHENTICATED]);
        let extra = BTreeMap::from([
            ("scopes".to_owned(), vec!["a".to_owned(), "b".to_owned()]),
            ("acme.com/pro+ject".to_owned(), vec!["c".to_owned()]),
        ]);
        assert_eq!(user.extra, extra);
        assert!(!user.is_master());
    }

    #[test]
    fn nobody_is_made_somebody() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("X-Remote-User", ""), ("X-Remote-Group", MASTERS)]), None);
        let anonymous = read(&[("X-Remote-User", ANONYMOUS), ("X-Remote-Group", UNAUTHENTICATED)]).unwrap();
        assert_eq!(anonymous.groups, [UNAUTHENTICATED]);
        assert_eq!(read(&[("X-Remote-User", ANONYMOUS)]).unwrap().groups, [""; 0]);
        assert!(read(&[("X-Remote-User", "a"), ("X-Remote-Group", MASTERS)]).unwrap().is_master());
    }
}
