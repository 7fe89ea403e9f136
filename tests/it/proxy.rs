//! Owns a way to a broker on which what commits a transaction can be swallowed, on its way there or back. Everything else is passed on.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

/// `EndTxn`, as requests begin behind their length.
const END_TXN: [u8; 2] = [0, 26];
/// The last byte of an `EndTxn` of the versions that the client library speaks (0 and 1).
const COMMIT: u8 = 1;

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// It is passed on, and its answer.
    Pass,
    /// The broker never hears of it.
    Unheard,
    /// The broker carries it out, and its answer is lost.
    Unanswered,
}

struct Post {
    commits: Mutex<Commits>,
    swallowed: AtomicUsize,
}

/// A proxy on loopback; its threads end with the process.
pub struct Proxy {
    /// Where clients come to.
    pub address: String,
    post: Arc<Post>,
}

impl Proxy {
    /// Passes on to `broker`, which need not be there yet.
    pub fn to(broker: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let post = Arc::new(Post { commits: Mutex::new(Commits::Pass), swallowed: AtomicUsize::new(0) });
        let shared = Arc::clone(&post);
        spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&broker) else { continue };
                let (answers, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (post, lost) = (Arc::clone(&shared), Arc::new(Mutex::new(HashSet::new())));
                let losing = Arc::clone(&lost);
                spawn(move || {
                    let _ = requests(&client, &server, &post, &losing);
                    let _ = server.shutdown(Shutdown::Both);
                });
                spawn(move || {
                    let _ = pass_answers(&answers, &to_client, &lost);
                    let _ = to_client.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, post }
    }

    /// From now on this is what becomes of commits.
    pub fn set(&self, commits: Commits) {
        *self.post.commits.lock().unwrap() = commits;
        self.post.swallowed.store(0, Ordering::Release);
    }

    /// How many commits, or their answers, were swallowed since that was last said.
    pub fn swallowed(&self) -> usize {
        self.post.swallowed.load(Ordering::Acquire)
    }
}

/// The next message: its length in four bytes, then itself.
fn message(mut from: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut message)?;
    Ok(message)
}

fn pass_on(mut to: &TcpStream, message: &[u8]) -> std::io::Result<()> {
    to.write_all(&[&u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat())
}

fn requests(from: &TcpStream, to: &TcpStream, post: &Post, lost: &Mutex<HashSet<Vec<u8>>>) -> std::io::Result<()> {
    loop {
        let request = message(from)?;
        if request.starts_with(&END_TXN) && request.last() == Some(&COMMIT) {
            let commits = *post.commits.lock().unwrap();
            if commits != Commits::Pass {
                post.swallowed.fetch_add(1, Ordering::AcqRel);
            }
            match commits {
                Commits::Pass => {}
                Commits::Unheard => continue,
                // What is asked under this number is answered under it.
                Commits::Unanswered => drop(lost.lock().unwrap().insert(request[4..8].to_vec())),
            }
        }
        pass_on(to, &request)?;
    }
}

fn pass_answers(from: &TcpStream, to: &TcpStream, lost: &Mutex<HashSet<Vec<u8>>>) -> std::io::Result<()> {
    loop {
        let answer = message(from)?;
        if !lost.lock().unwrap().remove(&answer[..4]) {
            pass_on(to, &answer)?;
        }
    }
}
