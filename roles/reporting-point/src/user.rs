//! The person (or program) for whom the front proxy asks.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::front_proxy::Proxy;

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
    /// Reads what `proxy` says; none: it names nobody.
    pub(crate) fn read(proxy: &Proxy, headers: &HeaderMap) -> Option<Self> {
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
