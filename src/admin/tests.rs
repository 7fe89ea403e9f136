//! The endpoints over real loopback sockets, spoken to in plain HTTP/1.1.

use super::{Error, Server, Settings, serve};
use crate::corpus::{Lane, Route};
use crate::telemetry::{Board, Exporter, Facts, metrics};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One answer, taken apart.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status code");
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

async fn start(settings: Settings) -> (Server, Board, Exporter) {
    let board = Board::new(Facts { pipeline: "english-web".into(), policy: "p1".into(), ..Facts::default() });
    let exporter = Exporter::local().unwrap();
    let server = serve(&settings, board.clone(), exporter.clone()).await.unwrap();
    (server, board, exporter)
}

fn free_port() -> Settings {
    Settings { listen: "127.0.0.1:0".into(), ..Settings::default() }
}

fn lane() -> Lane {
    Lane { topic: "corpus.raw".into(), partition: 0 }
}

#[tokio::test]
async fn readiness_follows_the_board_and_says_why_not() {
    let (server, board, _exporter) = start(free_port()).await;
    let cold = ask(server.address(), "GET", "/readyz").await;
    assert_eq!((cold.status, cold.body.as_str()), (503, "the model is not warm yet\n"));
    board.set_model_warm("s1");
    board.set_partitions(&[lane()]);
    let ready = ask(server.address(), "GET", "/readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, "ok\n"));
    board.set_draining();
    let draining = ask(server.address(), "GET", "/readyz").await;
    assert_eq!((draining.status, draining.body.as_str()), (503, "draining\n"));
    assert_eq!(ask(server.address(), "GET", "/livez").await.status, 200, "a drain is no reason for a restart");
    server.shutdown().await;
}

#[tokio::test]
async fn a_name_that_somebody_else_may_own_is_not_answered_unless_it_is_listed() {
    async fn status(server: &Server, host: &str) -> u16 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let request = format!("GET /status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text.contains("english-web"), text.contains(" 200 "), "{text}");
        text.split(' ').nth(1).unwrap().parse().unwrap()
    }
    let (server, _board, _exporter) = start(free_port()).await;
    assert_eq!(status(&server, "rebound.example:9600").await, 421);
    assert_eq!(status(&server, "localhost:9600").await, 200);
    let hosts = vec!["rebound.example".to_owned()];
    let (server, _board, _exporter) = start(Settings { hosts, ..free_port() }).await;
    assert_eq!(status(&server, "rebound.example:9600").await, 200);
}

#[tokio::test]
async fn liveness_ends_when_the_process_says_that_it_is_stuck() {
    let (server, board, _exporter) = start(free_port()).await;
    assert_eq!(ask(server.address(), "GET", "/livez").await.status, 200);
    board.set_stuck("the device thread is gone");
    let stuck = ask(server.address(), "GET", "/livez").await;
    assert_eq!((stuck.status, stuck.body.as_str()), (503, "the device thread is gone\n"));
}

#[tokio::test]
async fn liveness_ends_when_nothing_moves() {
    let (server, board, _exporter) = start(Settings { stall_after_ms: 1, ..free_port() }).await;
    board.set_in_flight(1);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(ask(server.address(), "GET", "/livez").await.status, 503);
}

#[tokio::test]
async fn metrics_are_prometheus_text_and_agree_with_readiness() {
    let (server, board, exporter) = start(free_port()).await;
    exporter.within(|| metrics::delivered(Route::Review, 1));
    let cold = ask(server.address(), "GET", "/metrics").await;
    assert_eq!(cold.status, 200);
    assert!(cold.head.contains("content-type: text/plain; version=0.0.4"), "{}", cold.head);
    assert!(
        cold.body.contains("\ntamis_documents_total{route=\"review\"} 1\n") && cold.body.contains("\ntamis_ready 0\n")
    );
    board.set_model_warm("s1");
    board.set_partitions(&[lane()]);
    assert!(ask(server.address(), "GET", "/metrics").await.body.contains("\ntamis_ready 1\n"));
}

#[tokio::test]
async fn status_is_the_board_as_json() {
    let (server, board, _exporter) = start(free_port()).await;
    board.delivered(Route::DeadLetter, 1);
    let answer = ask(server.address(), "GET", "/status").await;
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["pipeline"], "english-web");
    assert_eq!(json["documents"]["dead-letter"], 1);
    assert_eq!(json["waiting_for"], "the model is not warm yet");
}

#[tokio::test]
async fn the_front_page_is_html_that_links_every_endpoint() {
    let (server, _board, _exporter) = start(free_port()).await;
    let answer = ask(server.address(), "GET", "/").await;
    assert!(answer.status == 200 && answer.head.contains("content-type: text/html"), "{}", answer.head);
    for path in ["/livez", "/readyz", "/metrics", "/status", "/events"] {
        assert!(answer.body.contains(&format!("href=\"{}\"", &path[1..])), "{path} is not linked");
    }
    for path in ["/livez", "/readyz", "/metrics", "/status", "/page.css", "/page.js", "/page.svg"] {
        assert_ne!(ask(server.address(), "GET", path).await.status, 404, "{path} is linked and absent");
    }
    assert!(answer.head.contains("content-security-policy: default-src 'none'; style-src 'self'"), "{}", answer.head);
    assert!(!answer.head.contains("unsafe") && !answer.body.contains("<style") && !answer.body.contains("style="));
}

/// Opens `/events` and reads until the first whole event; the connection stays open as long as what is returned.
async fn listen(address: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET /events HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "the stream ended");
        heard.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&heard);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        if !head.contains(" 200 ") || body.contains("\n\n") {
            return (stream, text.into_owned());
        }
    }
}

#[tokio::test]
async fn listeners_are_told_the_status_and_a_shutdown_does_not_wait_for_them() {
    let (server, board, _exporter) = start(free_port()).await;
    board.set_stuck("the device thread is gone");
    let (mut stream, heard) = listen(server.address()).await;
    assert!(heard.contains("content-type: text/event-stream"), "{heard}");
    let event = heard.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    let json: serde_json::Value = serde_json::from_str(event).unwrap();
    assert_eq!((json["pipeline"].as_str(), json["live"].as_bool()), (Some("english-web"), Some(false)));
    assert!(json["now"]["per_second"]["dead-letter"].is_number() && json["rejects"].is_array());
    server.shutdown().await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(String::from_utf8_lossy(&rest).ends_with("0\r\n\r\n"), "the stream was ended in good order, not cut");
}

#[tokio::test]
async fn one_listener_too_many_is_refused_and_a_seat_left_is_free_again() {
    let (server, _board, _exporter) = start(free_port()).await;
    let mut seated = Vec::new();
    for _ in 0..super::events::LISTENERS {
        seated.push(listen(server.address()).await);
    }
    let refused = ask(server.address(), "GET", "/events").await;
    assert!(refused.status == 503 && refused.body.contains("/status"), "{}", refused.body);
    seated.pop();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !listen(server.address()).await.1.contains(" 200 ") {
        assert!(Instant::now() < deadline, "the seat did not become free");
    }
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let (server, _board, _exporter) = start(free_port()).await;
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for path in ["/", "/status", "/livez"] {
            assert_eq!(ask(server.address(), method, path).await.status, 405, "{method} {path}");
        }
    }
    let head = ask(server.address(), "HEAD", "/status").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(ask(server.address(), "GET", "/shutdown").await.status, 404);
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let settings = Settings { listen: listen.clone(), ..Settings::default() };
    let board = Board::new(Facts::default());
    let Error::Bind { listen: named, source } =
        serve(&settings, board, Exporter::local().unwrap()).await.expect_err("the port is taken");
    assert_eq!((named, source.kind()), (listen.clone(), std::io::ErrorKind::AddrInUse));
    let message = Error::Bind { listen: listen.clone(), source }.to_string();
    assert!(message.contains(&listen) && message.contains("admin.listen") && message.contains("port 0"), "{message}");
}

#[tokio::test]
async fn an_address_that_is_none_is_an_error_that_shows_one() {
    let settings = Settings { listen: "nine-thousand".into(), ..Settings::default() };
    let error =
        serve(&settings, Board::new(Facts::default()), Exporter::local().unwrap()).await.expect_err("no address");
    assert!(error.to_string().contains("nine-thousand") && error.to_string().contains("127.0.0.1:9600"), "{error}");
}

#[tokio::test]
async fn shutdown_is_bounded_and_frees_the_port() {
    let (server, _board, _exporter) = start(free_port()).await;
    let address = server.address();
    // One client that never finishes its request and one that never sends any.
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET /status HTTP/1.1\r\nhost:").await.unwrap();
    let _silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(address, "GET", "/livez").await.status, 200);
    let began = Instant::now();
    server.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    assert!(TcpListener::bind(address).await.is_ok(), "the port is still taken");
}

#[tokio::test]
async fn a_request_without_end_is_refused_and_its_body_is_never_read() {
    let (server, _board, _exporter) = start(free_port()).await;
    let status = async |head: String| {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        // The server may hang up before all was written.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = vec![0; 12];
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read_exact(&mut answer)).await;
        read.expect("an answer in time").map(|_| String::from_utf8(answer).unwrap())
    };
    let many = (0..200).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    assert_eq!(status(format!("GET /status HTTP/1.1\r\nhost: t\r\n{many}\r\n")).await.unwrap(), "HTTP/1.1 431");
    let long = "y".repeat(2 << 20);
    let refused = status(format!("GET /status HTTP/1.1\r\nhost: t\r\nx: {long}\r\n\r\n")).await;
    assert!(refused.as_ref().map_or(true, |line| line == "HTTP/1.1 431"), "{refused:?}");
    // A body that is announced and never comes is not waited for.
    let body = format!("GET /livez HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n\r\n", u64::MAX / 4);
    assert_eq!(status(body).await.unwrap(), "HTTP/1.1 200");
    assert_eq!(ask(server.address(), "GET", "/livez").await.status, 200);
}
