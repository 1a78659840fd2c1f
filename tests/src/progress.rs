//! Lines on the terminal that say what is being done and for how long.

use std::fmt::Display;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a long step says that it is still at work.
const BEAT: Duration = Duration::from_secs(2);

/// One step of work: says when it starts, every two seconds what it is doing, and how long it took.
#[derive(Debug)]
pub struct Step {
    name: String,
    start: Instant,
    beat: Option<(Sender<String>, JoinHandle<()>)>,
}

impl Step {
    /// Starts a step and prints its name.
    pub fn start(name: impl Into<String>) -> Self {
        let name = name.into();
        let start = Instant::now();
        println!("==> {name}");
        let (sender, receiver) = channel::<String>();
        let label = name.clone();
        let thread = std::thread::spawn(move || {
            let mut detail = String::new();
            let mut told = Instant::now();
            loop {
                match receiver.recv_timeout(BEAT.saturating_sub(told.elapsed())) {
                    Ok(text) => detail = text,
                    Err(RecvTimeoutError::Timeout) => {
                        let seconds = start.elapsed().as_secs();
                        let text = if detail.is_empty() { &label } else { &detail };
                        println!("    {seconds:>3} s  {text}");
                        told = Instant::now();
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        Self { name, start, beat: Some((sender, thread)) }
    }

    /// What the step is at now; shown with the next beat.
    pub fn detail(&self, text: impl Display) {
        if let Some((sender, _)) = &self.beat {
            // The receiver lives as long as this value.
            let _ = sender.send(text.to_string());
        }
    }

    /// Time since the step started.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends the step, prints `result` and the time, and returns the time.
    pub fn done(mut self, result: impl Display) -> Duration {
        self.end_beat();
        let taken = self.start.elapsed();
        println!("    {result} ({:.1} s)", taken.as_secs_f64());
        taken
    }

    fn end_beat(&mut self) {
        if let Some((sender, thread)) = self.beat.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.beat.is_some() {
            self.end_beat();
            println!("    not finished: {} ({:.1} s)", self.name, self.start.elapsed().as_secs_f64());
        }
    }
}
