//! Variants as Spark 4 itself encodes them, read off its own memory: the expression, the value, the metadata, both in hex,
//! and what is stored.

/// One variant of Spark's.
#[derive(Debug)]
pub(in crate::payload) struct Vector {
    /// What Spark evaluated.
    pub(in crate::payload) source: &'static str,
    value: &'static str,
    metadata: &'static str,
    stored: &'static str,
}

impl Vector {
    pub(in crate::payload) fn value(&self) -> Vec<u8> {
        bytes(self.value)
    }

    pub(in crate::payload) fn metadata(&self) -> Vec<u8> {
        bytes(self.metadata)
    }

    /// The attribute in DynamoDB's JSON; null where it is absent.
    pub(in crate::payload) fn stored(&self) -> serde_json::Value {
        serde_json::from_str(self.stored).unwrap()
    }
}

/// The bytes that a hexadecimal text stands for.
pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

const fn vector(source: &'static str, value: &'static str, metadata: &'static str, stored: &'static str) -> Vector {
    Vector { source, value, metadata, stored }
}

/// An array of the numbers 0 to 299, and an object of the fields `k299` to `k000` with their numbers: the kind, the value
/// and the metadata on a line each.
pub(super) const LARGE: &str = include_str!("vectors_large.txt");

/// What Spark gave.
pub(in crate::payload) const SPARK: &[Vector] = &[
    vector("parse_json('null')", "00", "010000", "null"),
    vector("parse_json('true')", "04", "010000", r#"{"BOOL":true}"#),
    vector("parse_json('false')", "08", "010000", r#"{"BOOL":false}"#),
    vector("parse_json('0')", "0c00", "010000", r#"{"N":"0"}"#),
    vector("parse_json('-1')", "0cff", "010000", r#"{"N":"-1"}"#),
    vector("parse_json('300')", "102c01", "010000", r#"{"N":"300"}"#),
    vector("parse_json('70000')", "1470110100", "010000", r#"{"N":"70000"}"#),
    vector("parse_json('5000000000')", "1800f2052a01000000", "010000", r#"{"N":"5000000000"}"#),
    vector("parse_json('12.50')", "2002e2040000", "010000", r#"{"N":"12.5"}"#),
    vector("parse_json('0.000001')", "200601000000", "010000", r#"{"N":"0.000001"}"#),
    vector("parse_json('1e10')", "1c000000205fa00242", "010000", r#"{"N":"10000000000"}"#),
    vector(
        "parse_json('123456789012345678901234567890.12345678')",
        "28084ef338de509049c4133302f0f6b04909",
        "010000",
        r#"{"N":"123456789012345678901234567890.12345678"}"#,
    ),
    vector(r#"parse_json('"héllo \"q\""')"#, "2968c3a96c6c6f20227122", "010000", r#"{"S":"héllo \"q\""}"#),
    vector(
        r#"parse_json('"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"')"#,
        "404600000078787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878",
        "010000",
        r#"{"S":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#,
    ),
    vector("parse_json('[]')", "030000", "010000", r#"{"L":[]}"#),
    vector("parse_json('{}')", "020000", "010000", r#"{"M":{}}"#),
    vector(
        r#"parse_json('[1,2.5,"x",null,true,[{}]]')"#,
        "03060002080a0b0c130c012001190000000578000403010003020000",
        "010000",
        r#"{"L":[{"N":"1"},{"N":"2.5"},{"S":"x"},{"NULL":true},{"BOOL":true},{"L":[{"M":{}}]}]}"#,
    ),
    vector(
        r#"parse_json('{"b":1,"a":{"c":[1,2,3]},"é":"z"}')"#,
        "0203010003020013150c01020102000c0303000204060c010c020c03057a",
        "01040001020305626163c3a9",
        r#"{"M":{"a":{"M":{"c":{"L":[{"N":"1"},{"N":"2"},{"N":"3"}]}}},"b":{"N":"1"},"é":{"S":"z"}}}"#,
    ),
    vector(
        r#"parse_json('{"items":[{"sku":"a-1","price":9.99},{"sku":"b-2","price":10.00}],"total":19.99,"paid":false,"note":null}')"#,
        "020400050403002e2d272f03020011220202020104000a0d612d312002e70300000202020104000a0d622d322002e80300002002cf0700000800",
        "01060005080d12161a6974656d73736b757072696365746f74616c706169646e6f7465",
        r#"{"M":{"items":{"L":[{"M":{"price":{"N":"9.99"},"sku":{"S":"a-1"}}},{"M":{"price":{"N":"10"},"sku":{"S":"b-2"}}}]},"note":{"NULL":true},"paid":{"BOOL":false},"total":{"N":"19.99"}}}"#,
    ),
    vector("cast(1.25D as variant)", "1c000000000000f43f", "010000", r#"{"N":"1.25"}"#),
    vector("cast(float(0.1) as variant)", "38cdcccc3d", "010000", r#"{"N":"0.1"}"#),
    vector("cast(date'1969-07-20' as variant)", "2c5bffffff", "010000", r#"{"S":"1969-07-20"}"#),
    vector(
        "cast(timestamp'2024-02-29 12:34:56.789Z' as variant)",
        "300866aa7c84120600",
        "010000",
        r#"{"N":"1709210096789000"}"#,
    ),
    vector(
        "cast(timestamp_ntz'2024-02-29 12:34:56.789' as variant)",
        "340866aa7c84120600",
        "010000",
        r#"{"S":"2024-02-29T12:34:56.789000"}"#,
    ),
    vector("cast(X'00ff10' as variant)", "3c0300000000ff10", "010000", r#"{"B":"AP8Q"}"#),
    vector("cast(1.500BD as variant)", "2003dc050000", "010000", r#"{"N":"1.5"}"#),
    vector("cast(cast(-1.5 as decimal(18,6)) as variant)", "2006a01ce9ff", "010000", r#"{"N":"-1.5"}"#),
    vector(
        "cast(cast('12345678901234567890.5' as decimal(38,10)) as variant)",
        "280a00faae2eefe073c3f60fe98e01000000",
        "010000",
        r#"{"N":"12345678901234567890.5"}"#,
    ),
    vector(
        "to_variant_object(map('b',1,'a',2))",
        "020201000200040c010c02",
        "01020001026261",
        r#"{"M":{"a":{"N":"2"},"b":{"N":"1"}}}"#,
    ),
    vector(
        "to_variant_object(named_struct('z',array(1,2),'a',named_struct('q','x')))",
        "0202010009001003020002040c010c0202010200020578",
        "0103000102037a6171",
        r#"{"M":{"a":{"M":{"q":{"S":"x"}}},"z":{"L":[{"N":"1"},{"N":"2"}]}}}"#,
    ),
    vector("cast(array('a',null) as variant)", "0302000203056100", "010000", r#"{"L":[{"S":"a"},{"NULL":true}]}"#),
];
