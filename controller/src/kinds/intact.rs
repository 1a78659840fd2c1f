//! Tells that content was damaged on disk: by a condition that stays for a while after the repair, and by an event.

use kube::Resource;
use patchtide_crds::conditions::{INTACT, StatusContract};
use patchtide_store::content::Damaged;

use super::flag;
use crate::context::Context;

/// Damage that is not repaired yet.
pub const DAMAGED: &str = "ContentDamaged";
/// Damage that was.
pub const REPAIRED: &str = "ContentRepaired";

/// Whether all is sound again, the reason, and a text that names the file.
pub type Verdict = (bool, &'static str, String);

/// What to tell of these files, those not repaired first; nothing when there are none. Pure.
pub fn judge<'a>(damaged: impl Iterator<Item = &'a Damaged>) -> Option<Verdict> {
    let all: Vec<&Damaged> = damaged.collect();
    let open = all.iter().filter(|one| one.repaired_at.is_none()).count();
    let first = all.first()?;
    let files = |n: usize| if n == 1 { "1 file was".to_owned() } else { format!("{n} files were") };
    Some(if open > 0 {
        let text = format!(
            "{} found damaged on disk and not replaced yet, first {}: look at the disk",
            files(open),
            described(first)
        );
        (false, DAMAGED, text)
    } else {
        let text = format!(
            "{} found damaged on disk and replaced, last {}: if it happens again, look at the disk",
            files(all.len()),
            described(first)
        );
        (true, REPAIRED, text)
    })
}

fn described(damaged: &Damaged) -> String {
    let file = damaged.url.as_deref().and_then(|url| url.rsplit('/').next()).map(str::to_owned);
    let file = file.unwrap_or_else(|| damaged.digest.to_string());
    let update = damaged.update.as_ref().map(|update| format!(" of {update}")).unwrap_or_default();
    let place = match &damaged.dp {
        Some(point) => format!("on distribution point {point}"),
        None => "in the site's library".to_owned(),
    };
    let found = damaged.found_at.strftime("%Y-%m-%dT%H:%M:%SZ");
    format!("{file}{update} {place}, which {} (found {found})", damaged.detail)
}

/// Puts the verdict into the status, and publishes an event when it is news.
pub async fn tell<K, S>(ctx: &Context, object: &K, status: &mut S, generation: i64, verdict: Option<Verdict>)
where
    K: Resource<DynamicType = ()>,
    S: StatusContract,
{
    let before = status.conditions().iter().find(|condition| condition.type_ == INTACT).cloned();
    let shown = verdict.as_ref().map(|(intact, reason, message)| (*intact, *reason, message.as_str()));
    flag(status, INTACT, generation, &ctx.clock.time(), shown);
    let Some((intact, reason, message)) = shown else { return };
    if before.as_ref().is_some_and(|before| before.reason == reason && before.message == message) {
        return;
    }
    // What was repaired before anybody was told is a warning too.
    let warning = !intact || before.is_none_or(|before| before.reason != DAMAGED);
    ctx.events.publish(object, warning, reason, "Verify", message).await;
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use patchtide_model::Digest;

    use super::*;

    fn damaged(dp: Option<&str>, repaired: bool) -> Damaged {
        Damaged {
            dp: dp.map(|name| name.parse().unwrap()),
            digest: Digest::of(b"x"),
            detail: "is gone from the disk".to_owned(),
            found_at: Timestamp::UNIX_EPOCH,
            repaired_at: repaired.then_some(Timestamp::UNIX_EPOCH),
            url: Some("https://archive.example/pool/x_1.deb".to_owned()),
            update: Some("a/b/c:x@1".parse().unwrap()),
        }
    }

    #[test]
    fn the_file_the_place_and_the_cause_are_named() {
        assert!(judge(std::iter::empty()).is_none());
        let all = [damaged(Some("dp1"), false), damaged(None, true)];
        let (intact, reason, text) = judge(all.iter()).unwrap();
        assert_eq!((intact, reason), (false, DAMAGED));
        assert_eq!(
            text,
            "1 file was found damaged on disk and not replaced yet, first x_1.deb of a/b/c:x@1 on distribution point \
             dp1, which is gone from the disk (found 1970-01-01T00:00:00Z): look at the disk"
        );
        let all = [damaged(None, true), damaged(Some("dp1"), true)];
        let (intact, reason, text) = judge(all.iter()).unwrap();
        assert_eq!((intact, reason), (true, REPAIRED));
        assert!(text.starts_with("2 files were found damaged on disk and replaced, last x_1.deb of a/b/c:x@1 in the site's library"), "{text}");
        let unknown = Damaged { url: None, update: None, ..damaged(None, true) };
        assert!(judge([unknown].iter()).unwrap().2.contains(&Digest::of(b"x").to_string()));
    }
}
