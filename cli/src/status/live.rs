//! The live screen: drawn line by line where a line changed, so that nothing flickers; the terminal is given back as it was,
//! however it ends.
//!
//! crossterm alone, without a framework of widgets: the screen is lines of text that a pure function makes, and all that is
//! asked of the terminal is raw keys, a second screen and a cursor.

use std::{
    io::{self, Stdout, Write},
    time::Duration,
};

use anyhow::Context as _;
use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    execute, queue,
    style::Print,
    terminal::{
        self, BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap,
        EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    },
};
use jiff::tz::TimeZone;
use patchtide_crds::UpdateDeployment;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    follow::Followed,
    has_colour,
    screen::{Screen, Style},
};
use crate::clock;

/// The clock on the screen goes on.
const TICK: Duration = Duration::from_secs(1);

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    End,
    /// So many lines down, or up.
    Scroll(isize),
    Top,
    /// The size changed: everything is drawn anew.
    Anew,
}

/// The terminal in its second screen, until it is dropped.
struct Terminal {
    out: Stdout,
    /// What stands there.
    drawn: Vec<String>,
}

impl Terminal {
    fn open() -> io::Result<Self> {
        // First, so that whatever fails below is undone.
        terminal::enable_raw_mode()?;
        let mut terminal = Self { out: io::stdout(), drawn: Vec::new() };
        execute!(terminal.out, EnterAlternateScreen, Hide, DisableLineWrap, Clear(ClearType::All))?;
        Ok(terminal)
    }

    /// Draws the lines that changed.
    fn draw(&mut self, lines: Vec<String>) -> io::Result<()> {
        if lines == self.drawn {
            return Ok(());
        }
        queue!(self.out, BeginSynchronizedUpdate)?;
        for row in 0..lines.len().max(self.drawn.len()) {
            let line = lines.get(row).map_or("", String::as_str);
            if self.drawn.get(row).is_none_or(|drawn| drawn != line) {
                let row = u16::try_from(row).unwrap_or(u16::MAX);
                queue!(self.out, MoveTo(0, row), Print(line), Clear(ClearType::UntilNewLine))?;
            }
        }
        queue!(self.out, EndSynchronizedUpdate)?;
        self.out.flush()?;
        self.drawn = lines;
        Ok(())
    }

    fn forget(&mut self) -> io::Result<()> {
        self.drawn.clear();
        queue!(self.out, Clear(ClearType::All))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = execute!(self.out, EnableLineWrap, Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// Shows the screen until somebody ends it.
pub(super) async fn run(mut followed: Followed, namespace: &str) -> anyhow::Result<()> {
    let mut ended = signal(SignalKind::terminate()).context("signals cannot be waited for")?;
    let mut terminal =
        Terminal::open().context("the terminal cannot show a live screen: leave --watch out")?;
    let mut asked = keys();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (zone, mut from) = (TimeZone::system(), 0_usize);
    loop {
        let size = terminal::size().unwrap_or((80, 24));
        let deployments = followed.all();
        let (lines, most) = lines(&deployments, namespace, &zone, size, from, followed.trouble.as_deref());
        from = from.min(most);
        terminal.draw(lines).context("the terminal takes nothing any more")?;
        tokio::select! {
            more = followed.changed() => if !more { return Ok(()) },
            _ = tick.tick() => {}
            _ = ended.recv() => return Ok(()),
            key = asked.recv() => match key {
                None | Some(Asked::End) => return Ok(()),
                Some(Asked::Scroll(by)) => from = from.saturating_add_signed(by).min(most),
                Some(Asked::Top) => from = 0,
                Some(Asked::Anew) => terminal.forget()?,
            },
        }
    }
}

/// The lines for a terminal of that size, from a line of the body on; and the last one from which it can begin.
fn lines(
    deployments: &[UpdateDeployment],
    namespace: &str,
    zone: &TimeZone,
    (columns, rows): (u16, u16),
    from: usize,
    trouble: Option<&str>,
) -> (Vec<String>, usize) {
    let style = Style { colour: has_colour() };
    let now = clock::now();
    let screen = Screen { namespace, deployments, now, zone, columns: columns.into(), style };
    let body = screen.body();
    // Head and foot, each with an empty line.
    let room = usize::from(rows).saturating_sub(4).max(1);
    let most = body.len().saturating_sub(room);
    let from = from.min(most);
    let hidden = body.len().saturating_sub(from + room);
    let mut lines = vec![screen.head(), String::new()];
    lines.extend(body.into_iter().skip(from).take(room));
    lines.resize(room + 3, String::new());
    lines.push(screen.foot(trouble, hidden));
    (lines, most)
}

/// What is typed. A thread of its own, because reading a terminal blocks; it ends with the process.
fn keys() -> mpsc::Receiver<Asked> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if let Some(asked) = meaning(&event)
                && sender.blocking_send(asked).is_err()
            {
                return;
            }
        }
    });
    receiver
}

fn meaning(event: &Event) -> Option<Asked> {
    let key = match event {
        Event::Resize(..) => return Some(Asked::Anew),
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        _ => return None,
    };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c' | 'd') if control => Asked::End,
        KeyCode::Char('l') if control => Asked::Anew,
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Asked::End,
        KeyCode::Down | KeyCode::Char('j') => Asked::Scroll(1),
        KeyCode::Up | KeyCode::Char('k') => Asked::Scroll(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Asked::Scroll(10),
        KeyCode::PageUp => Asked::Scroll(-10),
        KeyCode::Home | KeyCode::Char('g') => Asked::Top,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys_end_and_scroll() {
        let key = |code, modifiers| meaning(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), Some(Asked::End));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Asked::End));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(key(KeyCode::Down, KeyModifiers::NONE), Some(Asked::Scroll(1)));
        assert_eq!(meaning(&Event::Resize(1, 1)), Some(Asked::Anew));
    }

    #[test]
    fn a_small_terminal_says_how_much_is_below() {
        let many: Vec<UpdateDeployment> =
            (0..20).map(|n| UpdateDeployment::new(&format!("d{n}"), Default::default())).collect();
        let (shown, most) = lines(&many, "site", &TimeZone::UTC, (80, 12), 0, None);
        assert_eq!(shown.len(), 12, "{shown:?}");
        assert!(shown[11].contains("51 more lines below"), "{shown:?}");
        let (end, same) = lines(&many, "site", &TimeZone::UTC, (80, 12), usize::MAX, None);
        assert_eq!((most, same), (51, 51));
        assert!(
            end[8].contains("d19") && end[9].contains("not reconciled yet") && end[11].contains("q ends"),
            "{end:?}"
        );
        let (troubled, _) = lines(&many, "site", &TimeZone::UTC, (80, 12), 0, Some("gone"));
        assert!(troubled[11].contains("not up to date, trying again: gone"), "{troubled:?}");
    }
}
