//! Frames of made-up statuses, drawn into memory.

use super::*;
use std::io::{Read, Write};
use std::net::TcpListener;

fn view(status: &serde_json::Value) -> View {
    let status = Status::read(status.to_string().as_bytes()).unwrap();
    View { address: "127.0.0.1:9600".into(), status: Some((status, Instant::now())), trouble: None, colours: false }
}

fn drawn(view: &View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| frame::draw(frame, view)).unwrap();
    lines(terminal.backend().buffer())
}

fn example() -> serde_json::Value {
    serde_json::json!({
        "pipeline": "english-web", "version": "9", "ready": true, "live": true, "guarantee": "exactly-once",
        "partitions": {"count": 4}, "brokers_up": 1, "uptime_ms": 61_000, "started_at_ms": 0, "in_flight": 3,
        "documents": {"pass": 40, "fail": 2}, "lag": {"records": 17, "seconds": 2.5},
        "now": {"per_second": {"pass": 12.0, "fail": 0.5}, "keep_rate": 0.86, "device_busy": 0.5},
        "history": {"documents": {"pass": [0, 4, 8], "fail": [0, 0, 1]}},
        "scores": [{"signal": "pll.nll_token", "from": 0.0, "to": 8.0, "bins": vec![1; 48], "above": 2,
            "rules": [{"max": 4.0, "review_above": 3.0}]}],
        "languages": [{"language": "en", "kept": [3], "judged": [4]}],
        "rejects": [{"at_ms": 60_000, "route": "fail", "source": "t/0/7", "id": "a\u{1b}[31mb",
            "reasons": [{"rule": "fluent", "signal": "pll.nll_token", "value": 5.13, "max": 4.2}]}],
        "a field of a later version": 1,
    })
}

#[test]
fn a_frame_tells_health_rates_thresholds_and_reasons_in_words() {
    let text = drawn(&view(&example()), 100, 40);
    for part in [
        "english-web  ● ready",
        "exactly-once · 4 partitions · 1 broker",
        "12.5 documents/s   86% kept   17 behind (2.5 s)",
        "│ max 4",
        "en 75% of 4",
        "pll.nll_token 5.130 > 4.2 (fluent)",
        "▄█",
    ] {
        assert!(text.contains(part), "{part} is missing from\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "an id can't steer the terminal");
    let ruler = text.lines().find(|line| line.contains('┆') && !line.contains("review")).expect("a line of marks");
    let places: Vec<usize> = ruler.chars().enumerate().filter(|(_, c)| *c != ' ').map(|(at, _)| at - 11).collect();
    assert_eq!(places, [18, 24], "at three and at four eighths of 48 bins:\n{text}");
}

#[test]
fn any_size_and_any_version_can_be_drawn() {
    for (width, height) in [(1, 1), (20, 3), (79, 200), (300, 5)] {
        drawn(&view(&example()), width, height);
        drawn(&view(&serde_json::json!({})), width, height);
    }
}

#[test]
fn a_worker_that_goes_away_is_said_so_above_its_last_numbers() {
    let mut view = view(&example());
    view.trouble = Some("connection refused".into());
    let text = drawn(&view, 100, 10);
    assert!(text.starts_with(" 127.0.0.1:9600 does not answer: connection refused"), "{text}");
    assert!(text.contains("english-web"));
}

#[test]
fn what_is_no_worker_is_an_error_and_an_address_may_look_like_one_of_the_web() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for answer in ["HTTP/1.1 200 OK\r\n\r\n{}", "HTTP/1.1 404 Not Found\r\n\r\n", "SSH-2.0\r\n"] {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 512]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    assert_eq!(ask::status(&format!("http://{address}/")).unwrap(), b"{}");
    for _ in 0..2 {
        assert!(matches!(ask::status(&address.to_string()), Err(ask::Error::Stranger(_))));
    }
    server.join().unwrap();
    assert!(ask::status("nine-thousand").is_err());
}
