//! Who may ask for what. The kernel says who asks (`SO_PEERCRED`); the machine's own files say who its administrators are.

use std::fs;

use patchtide_model::people::UserActions;

use super::Question;
use crate::root::Root;

/// Groups whose members administer the machine.
const ADMINISTRATORS: [&str; 2] = ["sudo", "wheel"];

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// User of the process at the other end.
    pub user: u32,
}

impl Peer {
    /// Root.
    pub const fn is_root(self) -> bool {
        self.user == 0
    }
}

/// Why it is refused; none: it is not.
pub(crate) fn refusal(root: &Root, peer: Peer, question: &Question, actions: UserActions) -> Option<String> {
    match question {
        Question::List => None,
        Question::Status | Question::Policy | Question::Scan | Question::Evaluate | Question::Why { .. } => {
            (!peer.is_root())
                .then(|| "this is for root alone; `patchtide-agent list` is for everybody".to_owned())
        }
        Question::Install { .. }
        | Question::Schedule { .. }
        | Question::Postpone { .. }
        | Question::Restart => {
            let may = match actions {
                UserActions::Nobody => false,
                UserActions::Root => peer.is_root(),
                UserActions::Administrators => peer.is_root() || administers(root, peer.user),
                UserActions::Everybody => true,
            };
            let who = match actions {
                UserActions::Nobody => "nobody at this machine",
                UserActions::Root => "root alone",
                _ => "root and the members of sudo and wheel",
            };
            (!may).then(|| format!("not permitted: the ClientSettings let {who} act (userActions)"))
        }
    }
}

/// Whether the user is a member of an administrators' group, by `/etc/passwd` and `/etc/group` alone.
fn administers(root: &Root, user: u32) -> bool {
    let read = |file: &str| fs::read_to_string(root.path(file)).unwrap_or_default();
    let passwd = read("/etc/passwd");
    let Some((name, primary)) = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?;
        (number == user.to_string()).then_some((name, fields.next()?))
    }) else {
        return false;
    };
    read("/etc/group").lines().any(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [group, _, number, members] = fields[..] else { return false };
        ADMINISTRATORS.contains(&group)
            && (number == primary || members.split(',').any(|member| member == name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whom_the_settings_name_may_act() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        fs::create_dir(root.path("/etc")).unwrap();
        let passwd = "root:x:0:0::/:/bin/sh\nanna:x:1000:1000::/:/bin/sh\nbert:x:1001:1001::/:/bin/sh\ncaro:x:1002:27::/:/bin/sh\n";
        fs::write(root.path("/etc/passwd"), passwd).unwrap();
        fs::write(root.path("/etc/group"), "sudo:x:27:anna,berta\nadm:x:4:bert\nusers:x:100:\n").unwrap();
        let may = |user, actions| refusal(&root, Peer { user }, &Question::Restart, actions).is_none();
        let table = [
            (UserActions::Nobody, [false, false, false, false, false]),
            (UserActions::Root, [true, false, false, false, false]),
            (UserActions::Administrators, [true, true, false, true, false]),
            (UserActions::Everybody, [true; 5]),
        ];
        for (actions, expected) in table {
            assert_eq!([0, 1000, 1001, 1002, 4711].map(|user| may(user, actions)), expected, "{actions:?}");
        }
        let everybody = Peer { user: 1001 };
        assert_eq!(refusal(&root, everybody, &Question::List, UserActions::Nobody), None);
        let told = refusal(&root, everybody, &Question::Status, UserActions::Everybody).unwrap();
        assert!(told.contains("patchtide-agent list"), "{told}");
        fs::remove_file(root.path("/etc/group")).unwrap();
        assert!(!may(1000, UserActions::Administrators), "what cannot be read gives no rights");
    }
}
