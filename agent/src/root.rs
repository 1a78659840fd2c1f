//! The machine that is looked after: normally `/`, in tests a Debian root in a folder.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// Search path of everything the agent starts.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Root folder of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// The machine whose root folder is `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Whether it is the machine that the agent runs on.
    pub fn is_host(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where an absolute path of the machine is found from here.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        self.0.join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// The argument vector that runs `arguments` on the machine: itself, or through `chroot`.
    pub fn arguments<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Vec<std::ffi::OsString> {
        let mut all = Vec::with_capacity(arguments.len() + 2);
        if !self.is_host() {
            all.push("chroot".into());
            all.push(self.0.clone().into_os_string());
        }
        all.extend(arguments.iter().map(|argument| argument.as_ref().to_owned()));
        all
    }

    /// A command on the machine with a clean environment: nothing of the agent's own reaches maintainer scripts.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        clean_command(&self.arguments(arguments))
    }

    /// A command on the machine as one of its users, with their group alone and a clean environment.
    pub fn command_as<S: AsRef<OsStr>>(&self, user: u32, group: u32, arguments: &[S]) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = if self.is_host() {
            let mut command = clean_command(arguments);
            // Setting the user also drops all further groups.
            command.uid(user).gid(group);
            command
        } else {
            let who = format!("--userspec={user}:{group}");
            let mut all: Vec<&OsStr> =
                vec!["chroot".as_ref(), who.as_ref(), "--groups=".as_ref(), self.0.as_os_str()];
            all.extend(arguments.iter().map(AsRef::as_ref));
            clean_command(&all)
        };
        command.env("HOME", "/");
        command
    }
}

/// A command from a complete argument vector, with the environment that package tools get.
pub fn clean_command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut arguments = arguments.iter();
    let mut command = Command::new(arguments.next().map_or(OsStr::new("false"), AsRef::as_ref));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DEBIAN_PRIORITY", "critical")
        .env("UCF_FORCE_CONFFOLD", "1")
        .env("APT_LISTCHANGES_FRONTEND", "none")
        .current_dir("/")
        .stdin(std::process::Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        let root = Root::new("/srv/x");
        assert_eq!(root.path("/var/lib"), Path::new("/srv/x/var/lib"));
        assert_eq!(root.arguments(&["apt-get", "-s"]), ["chroot", "/srv/x", "apt-get", "-s"]);
        assert_eq!(Root::new("/").arguments(&["apt-get"]), ["apt-get"]);
    }
}
