//! Bytes that are little and would be much once decoded.

use super::*;

/// A field of a message: its tag, its length and its content.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint_of(number << 3 | 2), varint_of(content.len() as u64), content.to_vec()].concat()
}

fn varint_of(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn refused(bytes: &[u8]) -> String {
    refuse_huge(bytes).unwrap_err().to_string()
}

/// An empty field of this number, `count` times.
fn empties(number: u64, count: usize) -> Vec<u8> {
    field(number, &[]).repeat(count)
}

#[test]
fn nothing_hides_behind_a_group() {
    let graph = field(7, &empties(1, NODES_MAX + 1));
    assert!(refused(&graph).contains("more than 50000 nodes"));
    // Field 100 as a group, begun and ended: decoders step over it.
    let group = [0xa3, 0x06, 0xa4, 0x06];
    let hidden = refused(&[&group[..], &graph].concat());
    assert!(hidden.contains("a group"), "{hidden}");
    assert!(hidden.contains("export it again"), "{hidden}");
    let within = field(7, &[&group[..], &empties(1, NODES_MAX + 1)].concat());
    assert!(refused(&within).contains("a group"));
}

#[test]
fn parts_without_bytes_are_counted() {
    let many = PARTS_MAX + 1;
    // Weights, values and notes of a graph; attributes, inputs and notes of a node; shapes and notes of a value.
    for number in [5, 13, 16] {
        assert!(refused(&field(7, &empties(number, many))).contains("parts"), "graph, {number}");
    }
    for number in [5, 1, 9] {
        let node = field(1, &empties(number, many));
        assert!(refused(&field(7, &node)).contains("parts"), "node, {number}");
    }
    let value = field(12, &empties(4, many));
    assert!(refused(&field(7, &value)).contains("parts"));
    assert_eq!(refuse_huge(&field(7, &empties(5, PARTS_MAX - 1))), Ok(()));
}

#[test]
fn numbers_are_charged_with_what_they_take_once_decoded() {
    let graph = |number: u64, bytes: usize| field(7, &field(5, &field(number, &vec![1; bytes])));
    let most = 1 << 20;
    for (number, width) in [(5, 4), (7, 8), (11, 8)] {
        let found = refuse(&graph(number, most / width + 1), most).unwrap_err().to_string();
        assert!(found.contains("once decoded"), "{number}: {found}");
        assert_eq!(refuse(&graph(number, most / width), most), Ok(()), "{number}");
    }
    // Bytes of weights stay where they are.
    assert_eq!(refuse(&graph(9, most + 1), most), Ok(()));
}
