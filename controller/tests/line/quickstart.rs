//! The objects of the line.

use patchtide_tests::archive::Archive;

/// The token of the example.
pub const TOKEN: &str = "a-token-of-more-than-sixteen-bytes";

/// One object of each kind, in an order in which references come before what they name.
pub fn quickstart(archive: &Archive) -> String {
    let security = &archive.security;
    format!(
        r"
apiVersion: v1
kind: Secret
metadata:
  name: enrolment
stringData:
  token: {TOKEN}
---
apiVersion: patchtide.dev/v1alpha1
kind: Site
metadata:
  name: site
spec:
  managementPoint: {{addresses: ['https://127.0.0.1:8443']}}
  enrolment:
    tokens: [{{name: all, secretRef: {{name: enrolment}}, use: Site}}]
    approval: {{mode: Automatic, tokens: [Site]}}
---
apiVersion: patchtide.dev/v1alpha1
kind: SoftwareUpdatePoint
metadata:
  name: debian
spec:
  sources:
  - name: debian
    product: Debian 12
    apt:
      url: {url}
      suites: [{suite}]
      components: [main]
      architectures: [{architecture}]
      keyring: {{keyringFile: {keyring}}}
  - name: away
    apt:
      url: http://127.0.0.1:9/debian
      suites: [bookworm]
      components: [main]
      architectures: [amd64]
      keyring: {{keyringFile: {keyring}}}
  updateRules: [{{name: xz, match: {{source: xz-utils}}, restart: Always}}]
---
apiVersion: patchtide.dev/v1alpha1
kind: SearchFolder
metadata:
  name: security
spec:
  criteria: {{classifications: [SecurityUpdates], requiredBy: {{atLeast: 1}}}}
---
apiVersion: patchtide.dev/v1alpha1
kind: UpdateList
metadata:
  name: security
spec:
  searchFolder: {{name: security}}
---
apiVersion: patchtide.dev/v1alpha1
kind: DeploymentTemplate
metadata:
  name: standard
spec:
  settings: {{deadline: {{after: 0s}}}}
---
apiVersion: patchtide.dev/v1alpha1
kind: DeploymentPackage
metadata:
  name: security
spec:
  updateLists: [security]
  distributionPoints: [dp1]
---
apiVersion: patchtide.dev/v1alpha1
kind: DistributionPoint
metadata:
  name: dp1
spec:
  endpoints: ['https://127.0.0.1:8444']
---
apiVersion: patchtide.dev/v1alpha1
kind: Collection
metadata:
  name: everyone
spec:
  all: true
---
apiVersion: patchtide.dev/v1alpha1
kind: MaintenanceWindow
metadata:
  name: night
spec:
  collection: everyone
  start: '02:00'
  duration: 2h
  timeZone: UTC
  recurrence: {{daily: {{}}}}
---
apiVersion: patchtide.dev/v1alpha1
kind: ClientSettings
metadata:
  name: default
spec:
  scanInterval: 1d
---
apiVersion: patchtide.dev/v1alpha1
kind: UpdateDeployment
metadata:
  name: security
spec:
  template: standard
  updateList: security
  listReference: Follow
  collection: everyone
",
        url = security.url,
        suite = security.suite,
        architecture = archive.architecture,
        keyring = security.keyring.display(),
    )
}
