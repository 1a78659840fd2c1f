//! Real Git repositories, made by the real `git`, free of the user's own Git configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::run;

/// A repository with a worktree on branch `main`.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// `git init` in `path`, which is created when missing.
    pub fn init(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        let repository = Self { path: path.to_owned() };
        repository.git(&["init", "--quiet", "--initial-branch=main"])?;
        Ok(repository)
    }

    /// The worktree's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `file://` URL to fetch from.
    pub fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    /// Runs a git command in the worktree and returns its output.
    pub fn git(&self, args: &[&str]) -> Result<String> {
        run(self.command().args(args))
    }

    /// A git command in this worktree, to add arguments and environment to.
    pub fn command(&self) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(&self.path)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0");
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "Test Admin")
                .env(format!("GIT_{role}_EMAIL"), "admin@patchtide.example");
        }
        // A hook or an outer git command of the user must not redirect us to another repository.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
            command.env_remove(name);
        }
        command
    }

    /// Writes a file below the worktree, folders included, without committing it.
    pub fn write(&self, file: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path.join(file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes a file from the worktree, without committing that.
    pub fn remove(&self, file: &str) -> Result<()> {
        let path = self.path.join(file);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Commits everything in the worktree and returns the commit's id.
    pub fn commit_all(&self, message: &str) -> Result<String> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message])?;
        self.head()
    }

    /// Writes the files and commits them; returns the commit's id.
    pub fn commit(&self, message: &str, files: &[(&str, &str)]) -> Result<String> {
        for (file, content) in files {
            self.write(file, content)?;
        }
        self.commit_all(message)
    }

    /// `git revert` of the last commit; returns the new commit's id.
    pub fn revert(&self) -> Result<String> {
        self.git(&["revert", "--no-edit", "HEAD"])?;
        self.head()
    }

    /// The id of the last commit.
    pub fn head(&self) -> Result<String> {
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_and_revert() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init(folder.path()).unwrap();
        let first = repository.commit("one", &[("a/b.yaml", "x: 1\n")]).unwrap();
        let second = repository.commit("two", &[("a/b.yaml", "x: 2\n")]).unwrap();
        assert_ne!(first, second);
        repository.revert().unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("a/b.yaml")).unwrap(), "x: 1\n");
        repository.remove("a/b.yaml").unwrap();
        repository.commit_all("three").unwrap();
        assert_eq!(repository.git(&["ls-files"]).unwrap(), "");
    }
}
