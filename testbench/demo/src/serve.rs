//! `--serve`: our stack serves a page about the run, to whoever asks with `curl`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use tandem::blocking::{self, Driver};

use crate::nic::Model;
use crate::peer::{OURS4, OURS6, Privilege};
use crate::rows::{Row, table};
use crate::server::{Page, Server};
use crate::transfer::{Carrier, Link, World};

/// Where the page is.
const PORT: u16 = 80;

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// When there is no Linux to ask from, or with what failed.
pub fn run(rows: &[Row], privilege: Option<Privilege>) -> Result<()> {
    let Some(privilege) = privilege else {
        println!(
            "--serve needs a network namespace with a TAP, so that curl can reach our stack; skipped"
        );
        return Ok(());
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .context("cannot wait for signals")?;
    }
    let model = Model::best();
    let mut link = Link::new(&Carrier::nic(model, true), &World::Linux, None)?;
    let addresses = [OURS4.into(), OURS6.into()].map(|ip| SocketAddr::new(ip, PORT));
    let mut server = Server::listen(&mut link.runtime, &addresses, Vec::new())?;
    let pid = std::process::id();
    let user = match privilege {
        Privilege::Root => "",
        Privilege::UserNamespace => " -U --preserve-credentials",
    };
    println!("our stack, over the {} NIC, serves a page; from another terminal:", model.name());
    for host in [OURS4.to_string(), format!("[{OURS6}]")] {
        println!("   nsenter{user} --target {pid} --net curl 'http://{host}/'");
    }
    println!("until Ctrl-C");
    let mut counted = u64::MAX;
    while !stop.load(Ordering::Relaxed) {
        if counted != server.served {
            counted = server.served;
            let body = page(rows, model, counted).into_bytes().into();
            server.set_page(Page { path: "/".into(), kind: "text/html; charset=utf-8", body });
        }
        let now = link.drive.now();
        server.step(&mut link.runtime, now);
        blocking::turn(&mut link.runtime, &mut link.drive)?;
        link.rest();
    }
    println!("served {counted} pages");
    Ok(())
}

fn page(rows: &[Row], model: Model, served: u64) -> String {
    // The table has nothing of a page's syntax in it but what is escaped here.
    let table = table(rows).replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Tandem</title></head>\n\
         <body><h1>Tandem</h1>\n<p>This page came from a TCP/IP stack in user space, through the {} model \
         of its NIC. Pages served before it: {served}.</p>\n<pre>{table}</pre></body></html>\n",
        model.name()
    )
}
