//! A site with clients, on the database that a fault is to strike.

use std::path::{Path, PathBuf};

use patchtide_store::{OpenOptions, SiteStore, Store};

use crate::{
    bed::{Bed, Device},
    child::write_keys,
    disk::{Image, read_image},
    ledger::UPDATES,
    site::Site,
};

pub(crate) struct Ground {
    pub(crate) bed: Bed,
    pub(crate) devices: Vec<Device>,
    folder: tempfile::TempDir,
}

impl Ground {
    /// Clients 1 to `clients`, known to the database at `url`, or to one of this ground's folder.
    pub(crate) async fn new(clients: usize, url: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bed = Bed::new("lab");
        std::fs::create_dir(folder.path().join("keys")).unwrap();
        std::fs::create_dir(folder.path().join("site")).unwrap();
        write_keys(&bed.keys, &folder.path().join("keys"));
        let devices: Vec<Device> = (1..=clients as u128).map(|id| bed.device(id)).collect();
        let ground = Self { bed, devices, folder };
        let url = url.map_or_else(|| ground.url(), str::to_owned);
        let database = Store::open(&url, &OpenOptions::default()).await.unwrap();
        let site = Site { store: database.site(&ground.bed.site), database, now: ground.bed.now() };
        for device in &ground.devices {
            site.activate(device).await;
        }
        site.catalogue(UPDATES).await;
        site.database.close().await.unwrap();
        ground
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// The database in this ground's folder.
    pub(crate) fn url(&self) -> String {
        url(&self.folder.path().join("site"))
    }

    /// Its files.
    pub(crate) fn image(&self) -> Image {
        read_image(&self.folder.path().join("site")).unwrap()
    }

    /// Opens a database as the next process would.
    pub(crate) async fn open(&self, url: &str) -> SiteStore {
        Store::open(url, &OpenOptions::default()).await.unwrap().site(&self.bed.site)
    }
}

/// The URL of the database in a folder.
pub(crate) fn url(folder: &Path) -> String {
    format!("sqlite://{}", folder.join("site.db").display())
}
