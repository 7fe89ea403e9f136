//! Footers whose schemas say more than they hold.

use super::*;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::io::Write;
use std::sync::Arc;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A file that is nothing but a footer with these elements.
fn footed(elements: &[Vec<u8>]) -> File {
    let count = elements.len();
    let count = [(count & 0x7f) as u8 | 0x80, (count >> 7 & 0x7f) as u8 | 0x80, (count >> 14) as u8];
    // Version 1; the list; no rows; no groups of rows.
    let schema = [&[0x15, 2, 0x19, 0xfc][..], &count, &elements.concat()].concat();
    let footer = [&schema[..], &[0x16, 0, 0x19, 0x0c, 0]].concat();
    let length = (footer.len() as u32).to_le_bytes();
    file(&[&b"PAR1"[..], &footer[..], &length, b"PAR1"].concat())
}

/// A group with so many children, in a varint's bytes.
fn group(children: &[u8]) -> Vec<u8> {
    [&[0x35, 0, 0x18, 1, b'g', 0x15][..], children, &[0]].concat()
}

/// A column of int32.
fn leaf() -> Vec<u8> {
    vec![0x15, 2, 0x25, 0, 0x18, 1, b'l', 0]
}

fn refused(file: &mut File) -> String {
    schema(file).unwrap_err()
}

#[test]
fn a_schema_that_says_more_than_it_holds_is_refused() {
    assert_eq!(schema(&mut footed(&[group(&[4]), leaf(), leaf()])).unwrap().num_columns(), 2);
    // i32::MAX children, in each of some groups.
    let many = vec![group(&[0xfe, 0xff, 0xff, 0xff, 0x0f]); 50];
    assert!(refused(&mut footed(&many)).contains("more parts than it has"));
    assert!(refused(&mut footed(&[group(&[6]), leaf(), leaf()])).contains("more parts than it has"));
    assert!(refused(&mut footed(&[group(&[1]), leaf()])).contains("damaged"), "children below none");
}

#[test]
fn a_schema_of_groups_within_groups_is_refused() {
    let deep = |groups: usize| footed(&[vec![group(&[2]); groups], vec![leaf()]].concat());
    assert_eq!(schema(&mut deep(DEPTH_MAX)).unwrap().num_columns(), 1);
    for groups in [DEPTH_MAX + 1, 200_000] {
        assert!(refused(&mut deep(groups)).contains("deeper than 64"));
    }
}

/// The crate goes by the numbers of fields, whatever types they have; what is read here by its type would be other bytes there.
#[test]
fn a_field_of_another_type_than_its_own_ends_the_reading() {
    for element in [&[0x58, 1, 2, 0][..], &[0x45, 2, 0], &[0xac, 0x55, 2, 0, 0], &[0xac, 0x5c, 0x18, 1, 7, 0, 0, 0]] {
        assert!(refused(&mut footed(&[element.to_vec(), leaf()])).contains("damaged"), "{element:?}");
    }
    for footer in [&[0x18, 1, 2][..], &[0x15, 2, 0x18, 1, 2], &[0x15], &[0x15, 2, 0x19], &[]] {
        let bytes = [&b"PAR1"[..], footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat();
        schema(&mut file(&bytes)).unwrap_err();
    }
    for bytes in [&b""[..], b"PAR1", b"PAR1\xff\xff\xff\xffPAR1", b"PAR1\0\0\0\0PARE"] {
        assert!(refused(&mut file(bytes)).contains("does not end"), "{bytes:?}");
    }
}

#[test]
fn every_kind_of_column_is_let_pass() {
    let text = "message m {
        required boolean a; optional int96 b; optional binary s (STRING); optional binary e (ENUM); optional binary j (JSON); optional binary o (BSON);
        optional int32 d (DATE); optional int32 t (TIME(MILLIS,true)); optional int64 u (TIMESTAMP(NANOS,false)); optional int32 i (INTEGER(8,false));
        optional int64 x (DECIMAL(10,2)); optional fixed_len_byte_array(16) y (UUID); optional fixed_len_byte_array(2) f (FLOAT16);
        optional group l (LIST) { repeated group list { optional binary element (UTF8); } }
        optional group k (MAP) { repeated group key_value { required binary key (UTF8); optional double value; } } }";
    let message = Arc::new(parse_message_type(text).unwrap());
    let mut bytes = Vec::new();
    SerializedFileWriter::new(&mut bytes, Arc::clone(&message), Arc::default()).unwrap().close().unwrap();
    let read = schema(&mut file(&bytes)).unwrap();
    assert_eq!(read.num_columns(), 16);
    assert_eq!(read.root_schema().get_fields(), message.get_fields());
}
