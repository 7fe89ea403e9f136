//! Owns the `cache` command: what the stores hold, and clearing them away.
//!
//! Invariants: nothing is asked; what was removed is said, with its bytes; a store in use is named and left.

use super::args::{Cache, CacheClear, CacheCommand, Override};
use super::main::{print, settings};
use crate::app::Failure;
use crate::cache::inventory::{self, Inventory};
use crate::cli::Exit;
use crate::config::Purpose;
use std::path::Path;

pub(super) fn cache(args: &Cache, overrides: &[Override]) -> Result<(), Failure> {
    let pipeline = match &args.command {
        CacheCommand::Stats(stats) => &stats.pipeline,
        CacheCommand::Clear(clear) => &clear.pipeline,
    };
    let settings = settings(pipeline, overrides, Purpose::Score)?;
    let path = &settings.cache.path;
    let stores = inventory::survey(path)?;
    match &args.command {
        CacheCommand::Stats(_) => print(stats(path, settings.cache.max_bytes, &stores).as_bytes()),
        CacheCommand::Clear(args) => clear(path, args, &stores),
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

fn clear(path: &Path, args: &CacheClear, stores: &[Inventory]) -> Result<(), Failure> {
    let wanted = |store: &&Inventory| args.instance.is_none_or(|instance| instance == store.instance);
    let chosen: Vec<&Inventory> = stores.iter().filter(wanted).collect();
    if let (Some(instance), []) = (args.instance, &chosen[..]) {
        let known: Vec<String> = stores.iter().map(|store| store.instance.to_string()).collect();
        let known =
            if known.is_empty() { "there is none".to_owned() } else { format!("there is {}", known.join(", ")) };
        return Err(Failure::new(Exit::Usage, format!("{}: no instance {instance}; {known}", path.display())));
    }
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
    if left.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Unavailable, left.join("\ntamis: "))) }
}
