//! Fetching one file into the site's library: from an archive or a mirror by HTTP, or from a folder of this machine; verified
//! while it streams, gone on with where an earlier attempt ended.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use patchtide_catalog::http::{Expected, FetchError, Fetcher, HttpOptions, Transfer};
use patchtide_crds::SoftwareUpdatePoint;
use patchtide_store::{
    content::WantedContent,
    library::{Incoming, Library, LibraryError},
};

use crate::context::Context;

/// Bytes of a file of a folder that are taken at once.
const CHUNK: usize = 256 * 1024;

/// Why a file is not here.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    #[error("{0:?} is not a URL: correct the source's url")]
    Url(String),
    #[error("the proxy {0:?} of the software update point is not a URL: correct proxy.url")]
    Proxy(String),
    #[error("no HTTP client can be made")]
    Client(#[source] FetchError),
    #[error("the file could not be fetched: check the source's url and the network")]
    Fetch(#[source] FetchError),
    #[error(
        "there is no room for {size} bytes in the content store of {limit}: raise Site.spec.limits.contentStore, or take updates out of packages"
    )]
    Full { size: u64, limit: u64 },
    #[error("the content store could not be looked through: check the rights of the data folder")]
    Library(#[source] LibraryError),
    #[error("{path} cannot be read: put the archive's files there, readable for the controller")]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the file could not be kept: check the space and rights of the data folder")]
    Keep(#[source] LibraryError),
    #[error("fetching was broken off")]
    Stopped,
}

/// Fetches a file into the library.
pub(super) async fn fetch_file(
    ctx: &Context,
    fetchers: &Fetchers,
    wanted: &WantedContent,
) -> Result<(), ContentError> {
    let url = url::Url::parse(&wanted.url).map_err(|_| ContentError::Url(wanted.url.clone()))?;
    if url.scheme() == "file" {
        let path = url.to_file_path().map_err(|()| ContentError::Url(wanted.url.clone()))?;
        let (library, wanted) = (ctx.library.clone(), wanted.clone());
        let copy = tokio::task::spawn_blocking(move || from_folder(&library, &path, &wanted));
        return copy.await.map_err(|_| ContentError::Stopped)?;
    }
    let points = ctx.caches.software_update_points.all();
    let fetcher = fetchers.through(proxy_of(&points, &wanted.url))?;
    fetch_from(&fetcher, &ctx.library, &url, wanted).await
}

/// By HTTP, from where an earlier attempt ended.
async fn fetch_from(
    fetcher: &Fetcher,
    library: &Library,
    url: &url::Url,
    wanted: &WantedContent,
) -> Result<(), ContentError> {
    loop {
        let (mut out, mut transfer) = begin(library, wanted).await?;
        let had = transfer.have();
        let outcome = fetcher.resume(url, &mut transfer, &mut out, &|_| {}).await;
        match outcome {
            Ok(()) => return out.0.finish(wanted.digest, wanted.size).map(drop).map_err(ContentError::Keep),
            // Other bytes than announced: nothing of them is gone on with. What an earlier attempt left may be to blame.
            Err(error @ (FetchError::Hash { .. } | FetchError::Size { .. })) => {
                out.0.discard().map_err(ContentError::Keep)?;
                if had == 0 {
                    return Err(ContentError::Fetch(error));
                }
            }
            Err(error) => return Err(ContentError::Fetch(error)),
        }
    }
}

/// Opens what an earlier attempt left, or a new file.
async fn begin(library: &Library, wanted: &WantedContent) -> Result<(Out, Transfer), ContentError> {
    let (library, wanted) = (library.clone(), wanted.clone());
    let open = move || {
        let expected = Expected { size: wanted.size, sha256: wanted.digest };
        let mut transfer = Transfer::new(expected);
        let incoming = library.resume(wanted.digest, |bytes| transfer.already_have(bytes))?;
        if transfer.have() <= wanted.size {
            return Ok((Out(incoming), transfer));
        }
        incoming.discard()?;
        Ok((Out(library.resume(wanted.digest, |_| {})?), Transfer::new(expected)))
    };
    let opened = tokio::task::spawn_blocking(open).await.map_err(|_| ContentError::Stopped)?;
    opened.map_err(ContentError::Keep)
}

/// From a folder. Blocking.
fn from_folder(library: &Library, path: &Path, wanted: &WantedContent) -> Result<(), ContentError> {
    let read = |source| ContentError::Folder { path: path.to_owned(), source };
    // Asked before it is opened: what is no file may never answer.
    let data = std::fs::metadata(path).map_err(read)?;
    if !data.is_file() {
        return Err(read(io::Error::other("it is no file")));
    }
    if data.len() != wanted.size {
        let wrong = LibraryError::WrongSize { expected: wanted.size, got: data.len() };
        return Err(ContentError::Keep(wrong));
    }
    let mut file = File::open(path).map_err(read)?;
    let mut incoming = library.writer().map_err(ContentError::Keep)?;
    let mut chunk = vec![0; CHUNK];
    while incoming.size() <= wanted.size {
        match file.read(&mut chunk).map_err(read)? {
            0 => break,
            n => incoming.write(&chunk[..n]).map_err(ContentError::Keep)?,
        }
    }
    incoming.finish(wanted.digest, wanted.size).map(drop).map_err(ContentError::Keep)
}

/// The proxy of the software update point whose archive has the file; a mirror of a package's own is reached without.
fn proxy_of(points: &[Arc<SoftwareUpdatePoint>], url: &str) -> Option<String> {
    points.iter().find_map(|point| {
        let proxy = point.spec.proxy.as_ref()?;
        let mut archives = point.spec.sources.iter().filter_map(|source| source.apt.as_ref());
        let has = |root: &str| {
            url.strip_prefix(root.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
        };
        archives.any(|apt| has(&apt.url)).then(|| proxy.url.clone())
    })
}

/// One HTTP client for each proxy in use.
#[derive(Default)]
pub(super) struct Fetchers(Mutex<BTreeMap<Option<String>, Fetcher>>);

impl Fetchers {
    fn through(&self, proxy: Option<String>) -> Result<Fetcher, ContentError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetcher) = known.get(&proxy) {
            return Ok(fetcher.clone());
        }
        let url = proxy.as_ref().map(|text| text.parse().map_err(|_| ContentError::Proxy(text.clone())));
        let options = HttpOptions { proxy: url.transpose()?, ..HttpOptions::default() };
        let fetcher = Fetcher::new(options).map_err(ContentError::Client)?;
        known.insert(proxy, fetcher.clone());
        Ok(fetcher)
    }
}

/// A library's incoming file as something to write to.
struct Out(Incoming);

impl io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use patchtide_model::Digest;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn files_come_through_the_proxy_of_their_archive() {
        let yaml = "apiVersion: patchtide.dev/v1alpha1\nkind: SoftwareUpdatePoint\nmetadata: {name: d}\nspec: {proxy: {url: 'http://proxy.example:3128'}, sources: [{name: d, apt: {url: 'http://archive.example/debian/', suites: [s], components: [main], architectures: [amd64], keyring: {keyringFile: /k}}}]}\n";
        let points = [Arc::new(serde_saphyr::from_str::<SoftwareUpdatePoint>(yaml).unwrap())];
        let of = |url| proxy_of(&points, url);
        assert_eq!(
            of("http://archive.example/debian/pool/x.deb").as_deref(),
            Some("http://proxy.example:3128")
        );
        assert_eq!(of("http://archive.example/debian-security/pool/x.deb"), None);
        assert_eq!(of("http://mirror.example/debian/pool/x.deb"), None);
        let fetchers = Fetchers::default();
        assert!(fetchers.through(Some("http://proxy.example:3128".to_owned())).is_ok());
        assert!(matches!(fetchers.through(Some("::".to_owned())), Err(ContentError::Proxy(_))));
    }

    fn wanted(bytes: &[u8], url: &str) -> WantedContent {
        WantedContent {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            url: url.to_owned(),
            update: "a/b/c:d@1".parse().unwrap(),
        }
    }

    /// R-DEPL-25: a folder of the server; what is there counts as little as what a mirror sends.
    #[test]
    fn files_come_from_a_folder_and_are_verified() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path().join("library")).unwrap();
        let path = folder.path().join("x.deb");
        let take = || from_folder(&library, &path, &wanted(b"content", "file:///x"));
        assert!(matches!(take(), Err(ContentError::Folder { .. })));
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(take(), Err(ContentError::Folder { .. })));
        std::fs::remove_dir(&path).unwrap();
        for bad in ["contents", "CONTENT"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(take(), Err(ContentError::Keep(_))), "{bad}");
        }
        std::fs::write(&path, "content").unwrap();
        take().unwrap();
        assert_eq!(library.read(Digest::of(b"content")).unwrap(), b"content");
    }

    /// A server that knows ranges; it breaks off its first answer after `cut` bytes. Tells the ranges that were asked for.
    async fn server(body: Vec<u8>, cut: usize) -> (url::Url, Arc<Mutex<Vec<Option<usize>>>>) {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x.deb", socket.local_addr().unwrap()).parse().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut cut = Some(cut);
            loop {
                let (mut stream, _) = socket.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
                let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
                let from = range.map(|range| range.trim_end_matches('-').parse::<usize>().unwrap());
                kept.lock().unwrap().push(from);
                let start = from.unwrap_or(0);
                let status = match from {
                    Some(from) => {
                        format!(
                            "206 Partial Content\r\ncontent-range: bytes {from}-{}/{}",
                            body.len() - 1,
                            body.len()
                        )
                    }
                    None => "200 OK".to_owned(),
                };
                let length = body.len() - start;
                let head =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                let end = cut.take().map_or(body.len(), |cut| (start + cut).min(body.len()));
                stream.write_all(&body[start..end]).await.unwrap();
            }
        });
        (url, asked)
    }

    /// The process that fetched is gone; the next one asks for the rest only. What was spoilt in between is fetched whole.
    #[tokio::test]
    async fn a_file_is_gone_on_with_by_a_later_process() {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::open(folder.path()).unwrap();
        let body: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let fetcher = Fetcher::new(HttpOptions { retries: 0, ..HttpOptions::default() }).unwrap();
        for spoilt in [false, true] {
            let (url, asked) = server(body.clone(), 250_000).await;
            let wanted = wanted(&body, url.as_str());
            let broken = fetch_from(&fetcher, &library, &url, &wanted).await;
            assert!(matches!(broken, Err(ContentError::Fetch(FetchError::Network { .. }))), "{broken:?}");
            let library = Library::open(folder.path()).unwrap();
            let partial = folder.path().join("partial").join(wanted.digest.to_string());
            let left = usize::try_from(std::fs::metadata(&partial).unwrap().len()).unwrap();
            assert!(left > 0);
            if spoilt {
                std::fs::write(&partial, vec![0; left]).unwrap();
            }
            fetch_from(&fetcher, &library, &url, &wanted).await.unwrap();
            let mut expected = vec![None, Some(left)];
            expected.extend(spoilt.then_some(None));
            assert_eq!(*asked.lock().unwrap(), expected, "spoilt: {spoilt}");
            assert_eq!(library.read(wanted.digest).unwrap(), body);
            assert!(library.partials().unwrap().is_empty());
            library.remove(wanted.digest).unwrap();
        }
    }
}
