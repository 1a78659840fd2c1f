//! The kinds of the group and the order in which they are applied.

/// API group.
pub const GROUP: &str = "patchtide.dev";
/// API version.
pub const VERSION: &str = "v1alpha1";
/// Category of all kinds: `kubectl get patchtide`.
pub const CATEGORY: &str = "patchtide";

/// One kind of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Wave in which objects of the kind are applied from Git: what others refer to comes first. Objects are pruned in
    /// the opposite order. Any order still works: a missing reference heals when the object comes.
    pub order: u8,
    /// Kind, for example `UpdateList`.
    pub kind: &'static str,
    /// Plural as in URLs.
    pub plural: &'static str,
}

/// All kinds, in order of application.
pub const KINDS: [Kind; 12] = [
    Kind { order: 0, kind: "Site", plural: "sites" },
    Kind { order: 1, kind: "SoftwareUpdatePoint", plural: "softwareupdatepoints" },
    Kind { order: 1, kind: "DistributionPoint", plural: "distributionpoints" },
    Kind { order: 2, kind: "Collection", plural: "collections" },
    Kind { order: 3, kind: "MaintenanceWindow", plural: "maintenancewindows" },
    Kind { order: 3, kind: "ClientSettings", plural: "clientsettings" },
    Kind { order: 4, kind: "SearchFolder", plural: "searchfolders" },
    Kind { order: 5, kind: "UpdateList", plural: "updatelists" },
    Kind { order: 6, kind: "DeploymentPackage", plural: "deploymentpackages" },
    Kind { order: 6, kind: "DeploymentTemplate", plural: "deploymenttemplates" },
    Kind { order: 7, kind: "UpdateDeployment", plural: "updatedeployments" },
    Kind { order: 8, kind: "GitSource", plural: "gitsources" },
];

/// The kind of this name.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.kind == name)
}

/// Calls the macro `$callback` with what is `$given` and the types of all kinds: for code that goes over them.
#[macro_export]
macro_rules! for_all_kinds {
    ($callback:ident $(, $given:expr)*) => {
        $callback!(
            $($given,)*
            Site,
            GitSource,
            SoftwareUpdatePoint,
            SearchFolder,
            UpdateList,
            DeploymentTemplate,
            UpdateDeployment,
            DeploymentPackage,
            DistributionPoint,
            Collection,
            MaintenanceWindow,
            ClientSettings
        )
    };
}

#[cfg(test)]
mod tests {
    use kube::Resource;

    use super::*;

    #[test]
    fn the_table_agrees_with_the_types() {
        macro_rules! check {
            ($($kind:ident),+) => {
                $(assert_eq!(kind(&crate::$kind::kind(&())).map(|k| k.plural), Some(&*crate::$kind::plural(&())));)+
            };
        }
        crate::for_all_kinds!(check);
        assert!(KINDS.windows(2).all(|pair| pair[0].order <= pair[1].order));
    }
}
