//! The top-level members of a JSON object as parts of its text, without building anything.
//!
//! A merge's attributes become an UpdateItem's expression, and a fold lets newer attributes replace older ones, by copying
//! parts of text. Names are compared as they are written: the encoder escapes every name in one way only.
//!
//! Invariant: the text is JSON that this process encoded, so it is not checked beyond what is needed to find where a member
//! ends. A text that ends too early ends the iteration, and [`Members::is_whole`] tells. Callers: the store, the pool.

use super::WriteItem;

/// A member of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// The name with its quotes, as it is written.
    pub name: &'a [u8],
    /// The value, as it is written.
    pub value: &'a [u8],
    /// Both, with what is between them.
    pub text: &'a [u8],
}

impl Member<'_> {
    /// Whether a merge removes the attribute: its value is a bare `null`, which no stored attribute is.
    pub fn is_removal(&self) -> bool {
        self.value == b"null"
    }
}

/// The members of an object, in the order in which they are written.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    object: &'a [u8],
    /// Before a member, a comma or the closing brace.
    at: usize,
}

/// The members of `object`, braces included: `{"id":{"S":"a"},"v":null}`.
pub fn members(object: &[u8]) -> Members<'_> {
    Members { object, at: 1 }
}

impl WriteItem {
    /// The key attributes.
    pub fn key_members(&self) -> Members<'_> {
        // Without the closing brace, which the iteration does not need.
        Members { object: &self.json[..1 + self.key_len as usize], at: 1 }
    }

    /// The attributes after the key.
    pub fn other_members(&self) -> Members<'_> {
        Members { object: &self.json, at: 1 + self.key_len as usize }
    }
}

impl<'a> Members<'a> {
    /// After the last member: whether the object's closing brace is what stopped it, and nothing follows.
    pub fn is_whole(&self) -> bool {
        self.object.get(self.at) == Some(&b'}') && self.at + 1 == self.object.len()
    }

    fn skip_space(&mut self) {
        while matches!(self.object.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn member(&self) -> Option<(Member<'a>, usize)> {
        let start = self.at;
        if self.object.get(start) != Some(&b'"') {
            return None;
        }
        let mut cursor = Self { object: self.object, at: string_end(self.object, start)? };
        let name = &self.object[start..cursor.at];
        cursor.skip_space();
        if self.object.get(cursor.at) != Some(&b':') {
            return None;
        }
        cursor.at += 1;
        cursor.skip_space();
        let end = value_end(self.object, cursor.at)?;
        let member = Member { name, value: &self.object[cursor.at..end], text: &self.object[start..end] };
        Some((member, end))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        self.skip_space();
        if self.object.get(self.at) == Some(&b',') {
            self.at += 1;
            self.skip_space();
        }
        let (member, end) = self.member()?;
        self.at = end;
        self.skip_space();
        Some(member)
    }
}

impl std::iter::FusedIterator for Members<'_> {}

/// Where the string that starts at `at` ends, quotes included.
fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            // Whatever follows, also the `u` of four digits, is no quote.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where the value that starts at `at` ends.
fn value_end(text: &[u8], at: usize) -> Option<usize> {
    let (mut at, mut depth) = (at, 0_usize);
    loop {
        match text.get(at)? {
            b'"' => at = string_end(text, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            _ if depth > 0 => {
                at += 1;
                continue;
            }
            _ => return bare_end(text, at),
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Where a number, `true`, `false` or `null` ends; there must be one.
fn bare_end(text: &[u8], at: usize) -> Option<usize> {
    let length = text[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
    (length > 0).then_some(at + length)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;
    use crate::store::WriteOp;

    fn pairs(object: &str) -> Vec<(String, String)> {
        let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
        let mut all = members(object.as_bytes());
        let found = all.by_ref().map(|member| (text(member.name), text(member.value))).collect();
        assert!(all.is_whole(), "{object}");
        found
    }

    fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_member_is_found_with_its_text_as_it_is_written() {
        assert_eq!(pairs("{}"), []);
        assert_eq!(pairs(r#"{"id":{"S":"a"}}"#), expected(&[(r#""id""#, r#"{"S":"a"}"#)]));
        assert_eq!(
            pairs(r#"{"id":{"S":"a"},"gone":null,"n":{"N":"-1.5E3"},"x":{"NULL":true}}"#),
            expected(&[
                (r#""id""#, r#"{"S":"a"}"#),
                (r#""gone""#, "null"),
                (r#""n""#, r#"{"N":"-1.5E3"}"#),
                (r#""x""#, r#"{"NULL":true}"#),
            ])
        );
        let text: Vec<&[u8]> = members(br#"{"a":null,"b":{"L":[]}}"#).map(|member| member.text).collect();
        assert_eq!(text, [br#""a":null"#.as_slice(), br#""b":{"L":[]}"#]);
    }

    #[test]
    fn quotes_braces_and_commas_within_strings_end_nothing() {
        assert_eq!(
            pairs(r#"{"a\"}":{"S":"\\"},"b\\":{"S":"\",\"c\":{"},"":{"S":"\u0022]"}}"#),
            expected(&[
                (r#""a\"}""#, r#"{"S":"\\"}"#),
                (r#""b\\""#, r#"{"S":"\",\"c\":{"}"#),
                (r#""""#, r#"{"S":"\u0022]"}"#),
            ])
        );
    }

    #[test]
    fn nested_objects_and_lists_stay_whole() {
        let value = r#"{"M":{"x":{"L":[{"M":{"y":{"S":"}"}}},{"L":[]},{"N":"1"}]},"z":{"BS":["AQ=="]}}}"#;
        assert_eq!(pairs(&format!(r#"{{"é":{value}}}"#)), expected(&[(r#""é""#, value)]));
        assert_eq!(
            pairs("{ \"a\" : [1, 2] ,\n\t\"b\":true , \"c\":\"s\" }"),
            expected(&[(r#""a""#, "[1, 2]"), (r#""b""#, "true"), (r#""c""#, r#""s""#)])
        );
    }

    #[test]
    fn a_removal_is_a_bare_null_only() {
        let removals: Vec<bool> =
            members(br#"{"a":null,"b":{"NULL":true},"c":{"S":"null"}}"#).map(|member| member.is_removal()).collect();
        assert_eq!(removals, [true, false, false]);
    }

    #[test]
    fn the_key_and_the_rest_of_an_item_are_told_apart() {
        let key = r#""id":{"S":"a,\"v\":{}"},"n":{"N":"1"}"#;
        let item =
            |rest: &str| WriteItem::new(WriteOp::Merge, Bytes::from(format!("{{{key}{rest}}}")), key.len() as u32);
        let names = |members: Members<'_>| members.map(|member| member.name.to_vec()).collect::<Vec<_>>();
        let whole = item(r#","v":null,"w":{"S":"x"}"#);
        assert_eq!(names(whole.key_members()), [b"\"id\"".to_vec(), b"\"n\"".to_vec()]);
        assert_eq!(names(whole.other_members()), [b"\"v\"".to_vec(), b"\"w\"".to_vec()]);
        let bare = item("");
        assert_eq!(names(bare.key_members()).len(), 2);
        let mut others = bare.other_members();
        assert_eq!(others.next(), None);
        assert!(others.is_whole());
    }

    #[test]
    fn a_text_that_ends_too_early_is_not_whole_and_breaks_nothing() {
        let whole = br#"{"a":{"S":"\u00e9\\"},"b":null,"c":{"L":[{"N":"1"}]}}"#;
        for end in 0..whole.len() {
            let mut cut = members(&whole[..end]);
            assert!(cut.by_ref().count() <= 3);
            assert!(!cut.is_whole(), "{end}");
            assert_eq!(cut.next(), None);
        }
        for broken in
            [r#"{"a"}"#, r#"{"a":}"#, r#"{"a":]}"#, r#"{a:1}"#, r#"{"a":1}}"#, r#"{"a":1"b":2}x"#, r#"{"a":,}"#]
        {
            let mut broken = members(broken.as_bytes());
            assert!(broken.by_ref().count() <= 2);
            assert!(!broken.is_whole());
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[\"\\\\{}\\[\\],:é\u{1}a ]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[\"\\\\}a]{0,3}", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn members_are_those_that_a_json_parser_finds(
            pairs in prop::collection::vec(("[\"\\\\{},:aé]{0,4}", json()), 0..6), pretty: bool,
        ) {
            let object: Map<String, Value> = pairs.into_iter().collect();
            let text = if pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) }.unwrap();
            let mut all = members(&text);
            let found: Vec<(String, Value)> = all
                .by_ref()
                .map(|member| (serde_json::from_slice(member.name).unwrap(), serde_json::from_slice(member.value).unwrap()))
                .collect();
            prop_assert!(all.is_whole());
            prop_assert_eq!(found, object.into_iter().collect::<Vec<_>>());
        }
    }
}
