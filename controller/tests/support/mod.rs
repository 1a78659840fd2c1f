//! A controller on a real control plane, with a database and a library of its own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use patchtide_controller::{
    Advertise, ControllerConfig, RunError,
    clock::{Clock, SystemClock},
    keys,
    metrics::Metrics,
};
use patchtide_model::SiteName;
use patchtide_signer::Signer;
use patchtide_store::{OpenOptions, SiteStore, Store, library::Library};
use patchtide_tests::control_plane::ControlPlane;
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle};

/// Everything that a test touches. The control plane comes last, so that it outlives what talks to it.
pub struct Ground {
    pub namespace: String,
    pub client: Client,
    pub store: SiteStore,
    pub signer: Arc<dyn Signer>,
    library: Library,
    folder: PathBuf,
    running: Option<Running>,
    pub plane: ControlPlane,
}

impl Ground {
    /// Starts a control plane with the CRDs and a namespace; the controller is not started yet.
    pub async fn new(folder: &Path) -> Self {
        let filter = tracing_subscriber::EnvFilter::new("warn,patchtide_controller=info");
        let _ =
            tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_test_writer().try_init();
        let inside = folder.join("plane");
        let plane = tokio::task::spawn_blocking(move || ControlPlane::start(&inside)).await.unwrap().unwrap();
        // As it is installed: the CRDs, and a service account with the least rights.
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests");
        plane.kubectl(&["apply", "--server-side", "-k", manifests.to_str().unwrap()]).unwrap();
        plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]).unwrap();
        let namespace = NAMESPACE.to_owned();
        let account = folder.join("controller.kubeconfig");
        plane.service_account_kubeconfig(&namespace, "patchtide", &account).unwrap();
        let kubeconfig = Kubeconfig::read_from(&account).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let site = SiteName::new(&namespace).unwrap();
        let url = format!("sqlite://{}", folder.join("site.db").display());
        let store = Store::open(&url, &OpenOptions::default()).await.unwrap().site(&site);
        let library = Library::open(folder.join("library")).unwrap();
        let keys = keys::ensure_signer_keys(&client, &namespace, &site, SystemClock.now()).await.unwrap();
        let signer: Arc<dyn Signer> = Arc::new(keys);
        Self { namespace, client, store, signer, library, folder: folder.to_owned(), running: None, plane }
    }

    /// Starts the controller.
    pub fn start(&mut self) {
        let config = ControllerConfig {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            store: self.store.clone(),
            library: self.library.clone(),
            signer: Arc::clone(&self.signer),
            clock: Arc::new(SystemClock),
            cache_dir: self.folder.join("cache"),
            allow_local_git: true,
            advertise: Advertise::default(),
            keyring_folders: Vec::new(),
            metrics: Metrics::default(),
            instance: None,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        self.running = Some((stop, tokio::spawn(patchtide_controller::run(config, shutdown))));
    }

    /// Stops the controller in good order.
    pub async fn stop(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            let _ = stop.send(());
            task.await.unwrap().unwrap();
        }
    }

    /// Waits until the site database answers a question in SQL like this, as the Debian package `sqlite3` prints it.
    pub async fn says(&self, question: &str, wanted: &str) {
        let mut said = String::new();
        for _ in 0..100 {
            let output = std::process::Command::new("sqlite3")
                .args(["-readonly", "-cmd", ".timeout 5000"])
                .arg(self.folder.join("site.db"))
                .arg(question)
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            said = String::from_utf8(output.stdout).unwrap();
            if said.trim_end() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("{question}: {said:?}, not {wanted:?}");
    }

    /// Applies YAML to the namespace.
    pub fn apply(&self, yaml: &str) {
        let documents: Vec<String> = yaml
            .split("\n---\n")
            .map(|text| text.replacen("metadata:", &format!("metadata:\n  namespace: {}", self.namespace), 1))
            .collect();
        self.plane.apply(&documents.join("\n---\n")).unwrap();
    }

    /// kubectl in the namespace.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let mut all = vec!["-n", self.namespace.as_str()];
        all.extend(args);
        self.plane.kubectl(&all).unwrap()
    }

    /// An object.
    pub fn get(&self, kind: &str, name: &str) -> Value {
        self.plane.get(&["-n", &self.namespace, kind, name]).unwrap()
    }

    /// All objects of all our kinds.
    pub fn all(&self) -> Vec<Value> {
        let list = self.plane.get(&["-n", &self.namespace, "patchtide"]).unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until `test` of the object says nothing more.
    pub async fn until(
        &self,
        kind: &str,
        name: &str,
        limit: u64,
        test: impl Fn(&Value) -> Result<(), String>,
    ) {
        let end = Instant::now() + Duration::from_secs(limit);
        loop {
            let object = self.get(kind, name);
            let Err(problem) = test(&object) else { return };
            assert!(Instant::now() < end, "{kind}/{name}: {problem}\n{:#}", object["status"]);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the object is ready in its present generation.
    pub async fn ready(&self, kind: &str, name: &str, limit: u64) {
        self.until(kind, name, limit, |object| {
            let ready = condition(object, "Ready");
            let observed = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            if observed && ready["status"] == "True" { Ok(()) } else { Err(format!("not ready: {ready}")) }
        })
        .await;
    }
}

/// The namespace of the manifests.
const NAMESPACE: &str = "patchtide";

/// How a controller is stopped, and its end.
type Running = (oneshot::Sender<()>, JoinHandle<Result<(), RunError>>);

/// A condition of an object; null when there is none.
pub fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or(Value::Null)
}
