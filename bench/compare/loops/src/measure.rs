//! Every contender under the same load, one after the other: the relay on one core, the load on the other.

use crate::{CONTENDERS, Outcome};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// CPU time of a process so far, in nanoseconds, all of its threads.
fn spent(pid: u32) -> std::io::Result<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// The same program on one core.
fn start(core: u32, args: &[&str], out: Stdio) -> std::io::Result<Child> {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(std::env::current_exe()?).args(args);
    command.stdin(Stdio::null()).stdout(out).spawn()
}

/// Plays all of them and prints a table.
pub fn all(calls: u32, seconds: u32) -> Outcome {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    println!(
        "{calls} calls, {} packets a second, {seconds} s each; load average {}",
        calls * 100,
        load.trim()
    );
    println!(
        "{:<58} {:>10} {:>8} {:>8} {:>8}",
        "loop and sockets", "us/packet", "lost %", "p50 us", "p99 us"
    );
    for (name, _) in CONTENDERS {
        let mut relay = start(1, &["relay", name, &calls.to_string()], Stdio::null())?;
        std::thread::sleep(Duration::from_secs(2));
        let row = match relay.try_wait()? {
            Some(status) => Err(format!("ended: {status}")),
            None => one(relay.id(), calls, seconds),
        };
        let _ended = relay.kill();
        relay.wait()?;
        match row {
            Ok(row) => println!("{name:<58} {row}"),
            Err(why) => println!("{name:<58} {why}"),
        }
        // Its ring gives the ports back a moment later.
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

fn one(relay: u32, calls: u32, seconds: u32) -> Result<String, String> {
    let told = |e: std::io::Error| e.to_string();
    let before = spent(relay).map_err(told)?;
    let load = start(0, &["load", &calls.to_string(), &seconds.to_string()], Stdio::piped());
    let output = load.and_then(Child::wait_with_output).map_err(told)?;
    let spent = spent(relay).map_err(told)? - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [sent, received, p50, p99] = numbers[..] else { return Err("the load failed".into()) };
    let cost = spent as f64 / 1_000.0 / received.max(1) as f64;
    let lost = 100.0 * (sent - received.min(sent)) as f64 / sent.max(1) as f64;
    Ok(format!("{cost:>10.2} {lost:>8.3} {p50:>8} {p99:>8}"))
}
