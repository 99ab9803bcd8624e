//! Running other programs, and saying so.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// The workspace's root: two levels above this crate.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two levels up").to_owned()
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// A command as one would type it, without the workspace's path.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    std::iter::once(program)
        .chain(command.get_args().map(|arg| arg.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a step with its output shown, after a line that says what it is.
pub(crate) fn step(what: &str, command: &mut Command) -> Result<()> {
    println!("== {what}\n   {}", shown(command));
    let start = Instant::now();
    let status = command.status().with_context(|| format!("cannot run `{}`", shown(command)))?;
    finish(what, command, status, start.elapsed())
}

/// Runs a step that is killed when it takes longer than `budget`: a hang must not stop a pipeline.
pub(crate) fn step_within(what: &str, budget: Duration, command: &mut Command) -> Result<()> {
    println!("== {what}\n   {}", shown(command));
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot run `{}`", shown(command)))?;
    let bar = spinner(what);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > budget {
            // The tests that cargo runs first: they would outlive it, and hang on.
            for pid in descendants(child.id()) {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
            child.kill()?;
            child.wait()?;
            bar.finish_and_clear();
            bail!(
                "{what}: over its budget of {} s; `{}` was ended",
                budget.as_secs(),
                shown(command)
            );
        }
        bar.tick();
        std::thread::sleep(Duration::from_millis(100));
    };
    bar.finish_and_clear();
    finish(what, command, status, start.elapsed())
}

/// All processes below `pid`.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten();
        for task in tasks.flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                found.push(child);
                open.push(child);
            }
        }
    }
    found
}

fn finish(what: &str, command: &Command, status: ExitStatus, took: Duration) -> Result<()> {
    if status.success() {
        println!("   {what}: done in {:.1} s", took.as_secs_f64());
        return Ok(());
    }
    bail!("{what} failed ({status}); to see it alone: {}", shown(command))
}

/// A spinner on a terminal, nothing elsewhere.
fn spinner(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("   {spinner} {msg} {elapsed}").expect("valid template");
    ProgressBar::new_spinner().with_style(style).with_message(what.to_owned())
}

/// What a command prints, when it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !out.status.success() {
        bail!("`{}` failed ({})", shown(command), out.status);
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Whether a program is on PATH.
pub(crate) fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_its_budget_ends_with_its_children() {
        let folder = std::env::temp_dir().join(format!("xtask-budget-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        let error = step_within("a hang", Duration::from_secs(2), &mut command).unwrap_err();
        assert!(error.to_string().contains("over its budget"), "{error}");
        let pid = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        // Gone, or a zombie that nobody has waited for yet.
        assert!(stat.is_empty() || stat.contains(") Z "), "still there: {stat}");
    }
}
