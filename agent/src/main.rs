//! `patchtide-agent`: arguments, logging, signals; the rest is in the library.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use jiff::civil;
use patchtide_agent::{
    control::{self, Question, ScheduleWish},
    install::supervisor,
    root::Root,
    run::{self, Config},
    transport::error::chain,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt,
    prelude::*,
};

/// Not done: what was asked for makes no sense now. (2 is for wrong arguments.)
const REFUSED: u8 = 1;
/// No agent answers.
const NO_AGENT: u8 = 3;
/// The one who asked may not.
const DENIED: u8 = 4;

/// Looks after this machine's updates as its site's policy says.
#[derive(Parser)]
#[command(name = "patchtide-agent", version)]
struct Arguments {
    /// Root folder of the machine; another than / is for tests and images.
    #[arg(long, global = true, default_value = "/")]
    root: PathBuf,
    /// Control socket, below the root.
    #[arg(long, global = true, default_value = "/run/patchtide/agent.sock")]
    socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent (the service).
    Run {
        /// Enrolment bundle, below the root.
        #[arg(long, default_value = "/etc/patchtide/bundle.json")]
        bundle: PathBuf,
        /// State folder, below the root.
        #[arg(long, default_value = "/var/lib/patchtide")]
        state: PathBuf,
        /// Form of the log on standard error.
        #[arg(long, value_enum, default_value = "text")]
        log_format: LogFormat,
    },
    /// How things stand on this machine.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ask the site for policy now; a changed one comes by itself while the site can be reached.
    Policy,
    /// Scan now.
    Scan,
    /// Evaluate all deployments now.
    Evaluate,
    /// Why an update is where it is: the gates it passes, who set each, and when it can open.
    Why {
        /// A deployment, an update (identity, source or slug) or a part of its identity; all without it.
        #[arg(value_name = "UPDATE|DEPLOYMENT")]
        update: Option<String>,
        /// Form of the answer.
        #[arg(short, long, value_enum, default_value = "text")]
        output: Output,
        /// As JSON; the same as `-o json`.
        #[arg(long)]
        json: bool,
    },
    /// What can be installed, by when it is installed without being asked for, and what waits. For everybody.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Install updates now, before their deadline; maintenance windows still hold.
    Install {
        /// Updates, or the names of their source or binary packages; all that are listed without it.
        updates: Vec<String>,
        /// Not during business hours (of the ClientSettings): when they are over.
        #[arg(long)]
        after_hours: bool,
    },
    /// Install updates at a time of your own before their deadline; without arguments `list` shows the schedule.
    Schedule {
        /// Time of day, for example 03:00.
        #[arg(required_unless_present_any = ["off", "reset"])]
        time: Option<civil::Time>,
        /// Only on these days, for example sat,sun.
        #[arg(long, value_delimiter = ',', value_enum, requires = "time")]
        weekdays: Vec<Weekday>,
        /// No schedule at all.
        #[arg(long, conflicts_with = "time")]
        off: bool,
        /// Again that of the ClientSettings.
        #[arg(long, conflicts_with_all = ["time", "off"])]
        reset: bool,
    },
    /// Put off what was asked for, the schedule and reminders; never beyond the deadline. Calls off a restart that was
    /// asked for.
    Postpone {
        /// Until when: 18:00, 2026-11-24T18:00, or 2h. Without it as long as may be.
        until: Option<String>,
    },
    /// Restart this machine now, where updates wait for a restart; also where restarts are suppressed.
    Restart,
    /// Carries out one operation on packages; started by the agent itself.
    #[command(hide = true)]
    Supervise {
        /// The operation's folder.
        folder: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = Root::new(arguments.root);
    let socket = root.path(&arguments.socket);
    match arguments.command {
        Command::Run { bundle, state, log_format } => {
            log(log_format);
            run(&Config {
                bundle: root.path(bundle),
                state: root.path(state),
                socket,
                root,
                // Its own binary, also after it was replaced by an update.
                program: PathBuf::from("/proc/self/exe"),
            })
        }
        Command::Supervise { folder } => {
            supervisor::supervise(&folder).map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
        }
        Command::Status { json } => ask(&socket, &Question::Status, json),
        Command::Policy => ask(&socket, &Question::Policy, false),
        Command::Scan => ask(&socket, &Question::Scan, false),
        Command::Evaluate => ask(&socket, &Question::Evaluate, false),
        Command::Why { update, output, json } => {
            ask(&socket, &Question::Why { update }, json || matches!(output, Output::Json))
        }
        Command::List { json } => ask(&socket, &Question::List, json),
        Command::Install { updates, after_hours } => {
            ask(&socket, &Question::Install { updates, after_hours }, false)
        }
        Command::Schedule { time, weekdays, off, reset: _ } => {
            let wish = match time {
                Some(time) => {
                    ScheduleWish::At { time, weekdays: weekdays.iter().map(|day| *day as u8 + 1).collect() }
                }
                None if off => ScheduleWish::Off,
                None => ScheduleWish::Reset,
            };
            ask(&socket, &Question::Schedule { wish }, false)
        }
        Command::Postpone { until } => ask(&socket, &Question::Postpone { until }, false),
        Command::Restart => ask(&socket, &Question::Restart, false),
    }
}

fn log(format: LogFormat) {
    // `info`, `debug`, `patchtide_agent=debug,info`
    let filter: Targets = std::env::var("PATCHTIDE_LOG")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    match format {
        LogFormat::Text => registry.with(lines).init(),
        LogFormat::Json => registry.with(lines.json()).init(),
    }
}

fn run(config: &Config) -> ExitCode {
    // One thread is enough: what takes long runs beside it.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let result = runtime.block_on(async {
        let stop = stopped();
        tokio::pin!(stop);
        loop {
            match run::run(config.clone(), stop.as_mut()).await {
                // All that matters is on disk, so that starting anew loses nothing; a full disk is waited for.
                Err(error @ (run::RunError::State(_) | run::RunError::OtherClient)) => {
                    tracing::error!(error = %chain(&error), "starting anew in 15 seconds");
                    tokio::select! {
                        () = tokio::time::sleep(std::time::Duration::from_secs(15)) => {}
                        () = stop.as_mut() => return Ok(()),
                    }
                }
                result => return result,
            }
        }
    });
    // An installation is not waited for: its supervisor goes on by itself.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

/// Completed by SIGTERM or SIGINT.
async fn stopped() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn ask(socket: &std::path::Path, question: &Question, json: bool) -> ExitCode {
    match control::ask(socket, question) {
        Ok(answer) if json && answer.ok => {
            println!("{}", answer.data);
            ExitCode::SUCCESS
        }
        Ok(answer) if answer.ok => {
            println!("{}", answer.text.trim_end());
            ExitCode::SUCCESS
        }
        Ok(answer) => {
            eprintln!("{}", answer.text);
            ExitCode::from(if answer.denied { DENIED } else { REFUSED })
        }
        Err(error) => {
            fail(&error);
            ExitCode::from(NO_AGENT)
        }
    }
}

fn fail(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("patchtide-agent: {}", chain(error));
    ExitCode::FAILURE
}
