//! From a Debian root to a running machine: mounts, device nodes, host name, then process 1 proper.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

/// Where the host keeps this program.
pub(crate) const PROGRAM: &str = "/usr/sbin/patchtide-testinit";

/// Device nodes that programs expect: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Never returns when it succeeds.
pub(crate) fn boot(root: &Path, hostname: &str) -> Result<(), String> {
    if std::process::id() != 1 {
        return Err("boot must be process 1 of a new PID namespace".to_owned());
    }
    prepare(root).map_err(|(what, error)| format!("{what}: {error}"))?;
    rustix::system::sethostname(hostname.as_bytes()).map_err(|error| format!("sethostname: {error}"))?;
    // Executed anew from inside, so that process 1 maps the host's own libraries and not the runner's.
    let error = Command::new(PROGRAM)
        .arg("init")
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .exec();
    Err(format!("cannot execute {PROGRAM}: {error}"))
}

type Failed = (String, Errno);

fn at<T>(what: impl Into<String>, result: Result<T, Errno>) -> Result<T, Failed> {
    result.map_err(|error| (what.into(), error))
}

fn io<T>(what: impl Into<String>, result: std::io::Result<T>) -> Result<T, Failed> {
    result.map_err(|error| (what.into(), Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

fn prepare(root: &Path) -> Result<(), Failed> {
    at(
        "make mounts private",
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC),
    )?;
    at("bind root", mount_bind_recursive(root, root))?;
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    let inside = |path: &str| root.join(path);
    for folder in ["proc", "sys", "dev", "run", "tmp"] {
        io(folder, fs::create_dir_all(inside(folder)))?;
    }
    at("mount proc", mount("proc", inside("proc"), "proc", safe | MountFlags::NOEXEC, None))?;
    // The kernel's settings and devices belong to the machine that runs the tests.
    for path in ["proc/sys", "proc/irq", "proc/bus"] {
        if inside(path).exists() {
            at(path, mount_bind(inside(path), inside(path)))?;
            at(path, mount_remount(inside(path), MountFlags::BIND | MountFlags::RDONLY | safe, ""))?;
        }
    }
    if inside("proc/sysrq-trigger").exists() {
        at("mask sysrq-trigger", mount_bind("/dev/null", inside("proc/sysrq-trigger")))?;
    }
    at("mask sys", mount("tmpfs", inside("sys"), "tmpfs", safe | MountFlags::RDONLY, None))?;
    at("mount run", mount("tmpfs", inside("run"), "tmpfs", safe, Some(c"mode=0755,size=64m")))?;
    at("mount tmp", mount("tmpfs", inside("tmp"), "tmpfs", safe, Some(c"mode=1777,size=1g")))?;
    io("run/lock", fs::create_dir_all(inside("run/lock")))?;
    devices(&inside("dev"))?;
    io("chdir", std::env::set_current_dir(root))?;
    at("pivot_root", rustix::process::pivot_root(".", "."))?;
    at("detach the old root", unmount(".", UnmountFlags::DETACH))?;
    io("chdir /", std::env::set_current_dir("/"))
}

fn devices(dev: &Path) -> Result<(), Failed> {
    at("mount dev", mount("tmpfs", dev, "tmpfs", MountFlags::NOSUID, Some(c"mode=0755,size=1m")))?;
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_raw_mode(0o666);
        at(name, mknodat(CWD, dev.join(name), FileType::CharacterDevice, mode, makedev(major, minor)))?;
        at(name, rustix::fs::chmod(dev.join(name), mode))?;
    }
    for folder in ["pts", "shm"] {
        io(folder, fs::create_dir(dev.join(folder)))?;
    }
    let pts = Some(c"newinstance,ptmxmode=0666,mode=0620,gid=5");
    at(
        "mount pts",
        mount("devpts", dev.join("pts"), "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, pts),
    )?;
    at(
        "mount shm",
        mount("tmpfs", dev.join("shm"), "tmpfs", MountFlags::NOSUID, Some(c"mode=1777,size=64m")),
    )?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        io(name, symlink(target, dev.join(name)))?;
    }
    Ok(())
}
