//! Owns the `cache` command: what the stores hold, clearing them away, and erasing what they know of a text.
//!
//! Invariants: nothing is asked; what was removed is said, with its bytes; a store in use is named and left.

use super::args::{Cache, CacheClear, CacheCommand, CacheErase, Override};
use super::main::{block_on, print, settings};
use crate::app::{self, Erasure, Failure};
use crate::cache::erasure;
use crate::cache::inventory::{self, Inventory};
use crate::cli::Exit;
use crate::config::{Purpose, Settings};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::Path;

pub(super) fn cache(args: &Cache, overrides: &[Override]) -> Result<(), Failure> {
    let pipeline = match &args.command {
        CacheCommand::Stats(stats) => &stats.pipeline,
        CacheCommand::Clear(clear) => &clear.pipeline,
        CacheCommand::Erase(erase) => &erase.pipeline,
    };
    let settings = settings(pipeline, overrides, Purpose::Cache)?;
    let path = &settings.cache.path;
    let stores = inventory::survey(path)?;
    match &args.command {
        CacheCommand::Stats(_) => print(stats(path, settings.cache.max_bytes, &stores).as_bytes()),
        CacheCommand::Clear(args) => clear(path, args, &stores),
        CacheCommand::Erase(args) => erase(args, &settings, &stores),
    }
}

fn stats(path: &Path, max_bytes: u64, stores: &[Inventory]) -> String {
    let mut text = format!("cache at {}, at most {max_bytes} bytes an instance\n", path.display());
    if stores.is_empty() {
        text.push_str("no instance has a store there yet\n");
        return text;
    }
    text.push_str("instance  in use  layout  generations       entries           bytes  set aside\n");
    for store in stores {
        let in_use = if store.in_use { "yes" } else { "no" };
        let entries = store.entries.map_or_else(|| "unknown".to_owned(), |entries| entries.to_string());
        let aside = match &store.set_aside[..] {
            [] => "none".to_owned(),
            some => format!("{} ({} bytes)", some.len(), some.iter().map(|(_, bytes)| bytes).sum::<u64>()),
        };
        text.push_str(&format!(
            "{:<8}  {in_use:<6}  {:<6}  {:>11}  {entries:>12}  {:>14}  {aside}\n",
            store.instance,
            store.layout.to_string(),
            store.generations,
            store.bytes
        ));
    }
    text
}

/// The stores of the instance asked for, or all.
fn chosen<'a>(path: &Path, stores: &'a [Inventory], asked: Option<u32>) -> Result<Vec<&'a Inventory>, Failure> {
    let wanted = |store: &&Inventory| asked.is_none_or(|instance| instance == store.instance);
    let chosen: Vec<&Inventory> = stores.iter().filter(wanted).collect();
    if let (Some(instance), []) = (asked, &chosen[..]) {
        let known: Vec<String> = stores.iter().map(|store| store.instance.to_string()).collect();
        let known =
            if known.is_empty() { "there is none".to_owned() } else { format!("there is {}", known.join(", ")) };
        return Err(Failure::new(Exit::Usage, format!("{}: no instance {instance}; {known}", path.display())));
    }
    Ok(chosen)
}

/// What was left undone, told together.
fn undone(left: &[String]) -> Result<(), Failure> {
    if left.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Unavailable, left.join("\ntamis: "))) }
}

fn clear(path: &Path, args: &CacheClear, stores: &[Inventory]) -> Result<(), Failure> {
    let chosen = chosen(path, stores, args.instance)?;
    if chosen.is_empty() {
        return print(format!("no instance has a store under {}\n", path.display()).as_bytes());
    }
    let deed = if args.dry_run { "would remove" } else { "removed" };
    let mut left = Vec::new();
    for store in chosen {
        match inventory::clear(path, store, args.dry_run) {
            Ok(bytes) => print(format!("{deed} instance {}: {bytes} bytes\n", store.instance).as_bytes())?,
            Err(error) => left.push(error.to_string()),
        }
    }
    undone(&left)
}

fn erase(args: &CacheErase, settings: &Settings, stores: &[Inventory]) -> Result<(), Failure> {
    let path = &settings.cache.path;
    let chosen = chosen(path, stores, args.instance)?;
    // Before a model is loaded for nothing.
    if chosen.is_empty() {
        return print(format!("no instance has a store under {}\n", path.display()).as_bytes());
    }
    let erasure = match (&args.text, &args.input) {
        (Some(text), _) => Erasure::Text(text.clone()),
        (None, Some(path)) if path.as_os_str() != "-" => Erasure::File(path.clone()),
        (None, _) => Erasure::Stdin,
    };
    let (keys, undecodable) = block_on(app::keys_of(settings, &erasure))?;
    let mut left = Vec::new();
    // Loading the models took a while, and a worker may have begun another store meanwhile.
    let stores = inventory::survey(path)?;
    for store in self::chosen(path, &stores, args.instance)? {
        let bar = bar(store);
        let erased = erasure::erase(path, store, &keys, || bar.inc(1));
        bar.finish_and_clear();
        match erased {
            Ok(done) => {
                let (instance, gone, kept) = (store.instance, done.erased, done.kept);
                let aside = if done.aside_bytes > 0 { ", and what was set aside is removed" } else { "" };
                print(format!("instance {instance}: {gone} entries erased, {kept} kept{aside}\n").as_bytes())?;
            }
            Err(error) => left.push(error.to_string()),
        }
    }
    undone(&left)?;
    if undecodable > 0 {
        let form = if settings.document.format.has_schemas() {
            " (values behind a schema's id are given as plain JSON here, with the names that document.text leads by)"
        } else {
            ""
        };
        let what = format!(
            "{undecodable} lines of the input hold no document{form}, so there is nothing known to erase for them; mend these lines and do it again"
        );
        return Err(Failure::new(Exit::Input, what));
    }
    Ok(())
}

/// How far a store was copied, on a terminal.
fn bar(store: &Inventory) -> ProgressBar {
    let bar = match store.entries {
        Some(entries) if std::io::stderr().is_terminal() => ProgressBar::new(entries),
        _ => ProgressBar::hidden(),
    };
    if let Ok(style) =
        ProgressStyle::with_template("{bar:32.green/white.dim} {percent} %  {human_pos} entries  {eta} left")
    {
        bar.set_style(style.progress_chars("━━─"));
    }
    bar
}
