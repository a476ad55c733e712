//! Content negotiation: the representation and the encoding that a client asks for in `Accept`.
//!
//! **Invariant:** a clause that cannot be served is skipped for the next one, and the response is 406 only if none is
//! left. A client that prefers protobuf thus gets JSON, if it accepts JSON at all.

mod form;

use http::{HeaderMap, HeaderValue, header};

pub use form::{Form, LIST_TAIL};

use crate::ApiError;

/// The content type of JSON responses, watches included: kube-apiserver names neither `stream=watch` nor `as=Table`
/// there either.
pub const JSON: &str = "application/json";

/// The representation of objects in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Representation {
    /// The objects themselves.
    Object,
    /// Rows of a `meta.k8s.io` Table.
    Table(MetaVersion),
    /// PartialObjectMetadata, or PartialObjectMetadataList.
    Metadata(MetaVersion),
}

/// A version of the group `meta.k8s.io`; both have the same fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetaVersion {
    /// `meta.k8s.io/v1`
    V1,
    /// `meta.k8s.io/v1beta1`
    V1Beta1,
}

impl MetaVersion {
    /// `group/version`, as in `apiVersion`.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }

    fn parse(version: &str) -> Option<Self> {
        match version {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1Beta1),
            _ => None,
        }
    }
}

/// The kind of request. It decides which metadata representation fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One object.
    Object,
    /// A list.
    List,
    /// A watch. Its events hold single objects, but clients reuse the Accept header of their list.
    Watch,
}

/// The format of a discovery response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// The types of `meta/v1`: APIGroupList, APIVersions.
    Legacy,
    /// `apidiscovery.k8s.io/v2`
    V2,
    /// `apidiscovery.k8s.io/v2beta1`
    V2Beta1,
}

/// The representation and encoding of a response about resources. The error is 406.
pub fn resource(headers: &HeaderMap, shape: Shape) -> Result<(Representation, Form), ApiError> {
    let offered = |clause: &Clause| {
        let form = clause.form(shape)?;
        if !clause.streams() || !clause.server_version() {
            return None;
        }
        let representation = match clause.transformation() {
            None => Representation::Object,
            Some(("meta.k8s.io", version, kind)) => {
                let version = MetaVersion::parse(version)?;
                match (kind, shape) {
                    ("Table", _) => Representation::Table(version),
                    ("PartialObjectMetadata", Shape::Object | Shape::Watch)
                    | ("PartialObjectMetadataList", Shape::List | Shape::Watch) => {
                        Representation::Metadata(version)
                    }
                    _ => return None,
                }
            }
            Some(_) => return None,
        };
        Some((representation, form.prettified(Some(clause.is_pretty(headers)))))
    };
    first(headers, offered).ok_or_else(|| {
        ApiError::not_acceptable(match shape {
            Shape::Object | Shape::List => "application/json, application/yaml",
            // A stream of YAML documents would need framing, which Kubernetes does not define.
            Shape::Watch => "application/json;stream=watch",
        })
    })
}

/// The encoding of an error response. Clauses that do not apply to errors, such as a Table, are skipped. If none is
/// left, the error is sent as JSON.
pub fn error(headers: &HeaderMap) -> Form {
    let offered = |clause: &Clause| {
        let form = clause.form(Shape::Object).filter(|_| clause.transformation().is_none())?;
        Some(form.prettified(Some(clause.is_pretty(headers))))
    };
    first(headers, offered).unwrap_or_default()
}

/// Whether the client accepts gzip, as in `negotiateContentEncoding` of k8s.io/apiserver. Unlike there, `gzip;q=0`
/// means that it does not.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|coding| {
            let mut parts = coding.split(';').map(str::trim);
            let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            is_gzip && !parts.any(|part| part.strip_prefix("q=").is_some_and(|weight| quality(weight) == 0))
        })
    })
}

/// The format of `/api` and `/apis`, which have aggregated discovery. The error is 406.
pub fn discovery(headers: &HeaderMap) -> Result<Discovery, ApiError> {
    let offered = |clause: &Clause| {
        if !clause.includes("application", "json") {
            return None;
        }
        match clause.transformation() {
            None => Some(Discovery::Legacy),
            Some(("apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList")) => Some(Discovery::V2),
            Some(("apidiscovery.k8s.io", "v2beta1", "APIGroupDiscoveryList")) => Some(Discovery::V2Beta1),
            Some(_) => None,
        }
    };
    first(headers, offered).ok_or_else(|| ApiError::not_acceptable(JSON))
}

/// Checks that the client accepts plain JSON, for documents that have no other format. The error is 406.
pub fn json(headers: &HeaderMap) -> Result<(), ApiError> {
    first(headers, |clause| {
        (clause.includes("application", "json") && clause.transformation().is_none()).then_some(())
    })
    .ok_or_else(|| ApiError::not_acceptable(JSON))
}

/// The result of `offered` for the first clause, in the client's order of preference, that it can serve.
fn first<T>(headers: &HeaderMap, offered: impl Fn(&Clause) -> Option<T>) -> Option<T> {
    let mut clauses = Vec::new();
    let mut named_any = false;
    for value in headers.get_all(header::ACCEPT) {
        // A header that is not ASCII text accepts nothing that can be served.
        let text = value.to_str().unwrap_or("?");
        named_any |= !text.trim().is_empty();
        clauses.extend(split(text, ',').filter_map(Clause::parse));
    }
    if !named_any {
        clauses = vec![Clause::anything()];
    }
    clauses.retain(|clause| clause.quality > 0);
    // The sort is stable: equal clauses keep the client's order.
    clauses.sort_by_key(|clause| (std::cmp::Reverse(clause.quality), clause.wildcards()));
    clauses.iter().find_map(offered)
}

/// One media range of an Accept header.
#[derive(Debug)]
struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// The weight `q`, in thousandths.
    quality: u16,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    fn anything() -> Self {
        Self { kind: "*", subtype: "*", quality: 1000, parameters: Vec::new() }
    }

    /// `None` for text that is not a media range. It is skipped, as in goautoneg.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = split(text, ';');
        let range = parts.next()?.trim();
        // Java's URLConnection sends a lone `*`.
        let (kind, subtype) = if range == "*" { ("*", "*") } else { range.split_once('/')? };
        let mut clause = Self { kind: kind.trim(), subtype: subtype.trim(), ..Self::anything() };
        for part in parts {
            let Some((name, value)) = part.split_once('=') else { continue };
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("q") {
                clause.quality = quality(value);
            } else {
                clause.parameters.push((name, value));
            }
        }
        Some(clause)
    }

    fn includes(&self, kind: &str, subtype: &str) -> bool {
        let matches = |range: &str, offer| range == "*" || range.eq_ignore_ascii_case(offer);
        matches(self.kind, kind)
            && matches(self.subtype, subtype)
            && (self.kind != "*" || self.subtype == "*")
    }

    /// The encoding that this clause accepts; JSON if it accepts both. Watches are never encoded in YAML.
    fn form(&self, shape: Shape) -> Option<Form> {
        if self.includes("application", "json") {
            return Some(Form::Json);
        }
        let is_yaml = self.includes("application", "yaml");
        (is_yaml && shape != Shape::Watch && self.parameter("stream").is_empty()).then_some(Form::Yaml)
    }

    /// Whether JSON is indented: if `pretty=1` asks for it, or for tools whose output people read directly, as in
    /// `isPrettyPrint` of k8s.io/apiserver.
    fn is_pretty(&self, headers: &HeaderMap) -> bool {
        let agent = headers.get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
        let is_read_by_people =
            [&b"curl"[..], b"Wget", b"Mozilla/5.0"].iter().any(|tool| agent.starts_with(tool));
        self.parameter("pretty") == "1" || is_read_by_people
    }

    fn wildcards(&self) -> u8 {
        u8::from(self.kind == "*") + u8::from(self.subtype == "*")
    }

    /// The value of a parameter; empty if it is missing.
    fn parameter(&self, name: &str) -> &'a str {
        let found = self.parameters.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// The group, version and kind (`g`, `v`, `as`) to transform the response into, if any of the three is given.
    fn transformation(&self) -> Option<(&'a str, &'a str, &'a str)> {
        let target = (self.parameter("g"), self.parameter("v"), self.parameter("as"));
        (target != ("", "", "")).then_some(target)
    }

    /// Whether `stream` is missing or `watch`, the only streaming schema.
    fn streams(&self) -> bool {
        matches!(self.parameter("stream"), "" | "watch")
    }

    /// Whether `sv`, the version of the server's own types (Status, WatchEvent), is missing or v1, the only one.
    fn server_version(&self) -> bool {
        matches!(self.parameter("sv"), "" | "v1")
    }
}

/// A weight in thousandths. One that cannot be parsed counts as the smallest weight, not as 0.
fn quality(text: &str) -> u16 {
    match text.parse::<f32>() {
        // RFC 9110 allows three decimals. The clamped value fits.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(weight) if !weight.is_nan() => (weight.clamp(0.0, 1.0) * 1000.0).round() as u16,
        _ => 1,
    }
}

/// Splits `text` at each `separator` outside of quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLES: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                          application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

    fn accept(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(value).unwrap())])
    }

    fn check(value: &str, shape: Shape, expected: Option<Representation>) {
        let actual = resource(&accept(value), shape).ok().map(|(representation, _)| representation);
        assert_eq!(actual, expected, "{value} for {shape:?}");
    }

    #[test]
    fn kubectl_gets_a_table_in_the_newest_version_it_knows() {
        check(TABLES, Shape::List, Some(Representation::Table(MetaVersion::V1)));
        let older = "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json";
        check(older, Shape::Watch, Some(Representation::Table(MetaVersion::V1Beta1)));
    }

    #[test]
    fn without_an_accept_header_objects_are_served_as_they_are() {
        assert_eq!(resource(&HeaderMap::new(), Shape::List).unwrap(), (Representation::Object, Form::Json));
        for anything in
            ["", "*/*", "*", "application/*", "text/html, */*;q=0.8", "application/json; charset=utf-8"]
        {
            check(anything, Shape::List, Some(Representation::Object));
        }
    }

    #[test]
    fn a_clause_that_cannot_be_served_gives_way_to_the_next() {
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
                        application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        check(metadata, Shape::List, Some(Representation::Metadata(MetaVersion::V1)));
        check(metadata, Shape::Object, Some(Representation::Object));
        check(
            "application/vnd.kubernetes.protobuf, application/json",
            Shape::List,
            Some(Representation::Object),
        );
        check("application/json;as=Table;v=v7;g=meta.k8s.io, */*", Shape::List, Some(Representation::Object));
    }

    #[test]
    fn what_cannot_be_served_at_all_returns_406() {
        for refused in [
            "application/vnd.kubernetes.protobuf",
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
            "application/json;as=Table;v=v2;g=meta.k8s.io",
            "application/json;as=Pod;v=v1;g=",
            "application/json;stream=other",
            "application/json;q=0",
            "text/*",
            "*/json",
            "nonsense",
        ] {
            check(refused, Shape::List, None);
        }
        let error = resource(&accept("text/html"), Shape::List).unwrap_err();
        assert_eq!(error.code(), http::StatusCode::NOT_ACCEPTABLE);
    }

    #[test]
    fn weights_and_wildcards_order_the_clauses() {
        let table = Some(Representation::Table(MetaVersion::V1));
        check("*/*;q=0.5, application/json;as=Table;v=v1;g=meta.k8s.io;q=0.9", Shape::List, table);
        check("*/*, application/json;as=Table;v=v1;g=meta.k8s.io", Shape::List, table);
        check(
            "application/json;q=0.2, application/json;as=Table;v=\"v1\";g=meta.k8s.io;q=0.7",
            Shape::List,
            table,
        );
        check("application/json;q=bad", Shape::List, Some(Representation::Object));
    }

    #[test]
    fn yaml_is_for_those_who_ask_for_it_and_never_streamed() {
        let of = |value: &str, shape| resource(&accept(value), shape).ok();
        let yaml = |representation| Some((representation, Form::Yaml));
        assert_eq!(of("application/yaml", Shape::Object), yaml(Representation::Object));
        assert_eq!(of("application/yaml, application/json;q=0.9", Shape::List), yaml(Representation::Object));
        let table = "application/yaml;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(of(table, Shape::List), yaml(Representation::Table(MetaVersion::V1)));
        assert_eq!(of("application/*", Shape::List), Some((Representation::Object, Form::Json)));
        for refused in ["application/yaml", table, "application/yaml;stream=watch"] {
            let error = resource(&accept(refused), Shape::Watch).unwrap_err();
            assert_eq!(error.code(), http::StatusCode::NOT_ACCEPTABLE);
            assert!(error.to_string().ends_with("application/json;stream=watch"), "{error}");
        }
        let json = Some((Representation::Object, Form::Json));
        assert_eq!(of("application/yaml, application/json", Shape::Watch), json, "the next clause will do");
    }

    #[test]
    fn errors_are_written_in_any_case() {
        let of = |value: &str| error(&accept(value));
        assert_eq!(of("application/yaml"), Form::Yaml);
        assert_eq!(
            of("application/yaml;as=Table;v=v1;g=meta.k8s.io, application/json;pretty=1"),
            Form::PrettyJson
        );
        for other in ["application/vnd.kubernetes.protobuf", "text/html", ""] {
            assert_eq!(of(other), Form::Json, "{other}");
        }
    }

    #[test]
    fn tools_that_people_read_from_get_pretty_json() {
        for (agent, form) in [
            ("curl/8.9.1", Form::PrettyJson),
            ("Mozilla/5.0 (X11)", Form::PrettyJson),
            ("kubectl/v1.36.3 (linux/amd64)", Form::Json),
        ] {
            let headers = HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_static(agent))]);
            assert_eq!(resource(&headers, Shape::List).unwrap().1, form, "{agent}");
        }
        assert_eq!(Form::PrettyJson.prettified(Some(false)), Form::Json, "the parameter has the last word");
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let takes = |value: &'static str| {
            accepts_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(takes("gzip") && takes("deflate, gzip;q=0.5") && takes("br , GZIP"));
        assert!(
            !takes("") && !takes("identity, br") && !takes("gzip;q=0") && !takes("x-gzip") && !takes("*")
        );
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn clauses_may_be_spread_over_several_headers() {
        let mut headers = accept("application/vnd.kubernetes.protobuf");
        headers.append(header::ACCEPT, HeaderValue::from_static("application/json;pretty=1"));
        assert_eq!(resource(&headers, Shape::Object).unwrap(), (Representation::Object, Form::PrettyJson));
    }

    #[test]
    fn a_watch_takes_either_name_of_the_metadata_representation() {
        for kind in ["PartialObjectMetadata", "PartialObjectMetadataList"] {
            let value = format!("application/json;stream=watch;as={kind};g=meta.k8s.io;v=v1");
            check(&value, Shape::Watch, Some(Representation::Metadata(MetaVersion::V1)));
        }
        check("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Shape::List, None);
    }

    #[test]
    fn discovery_is_aggregated_for_those_who_ask() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let v2beta1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        let of = |value: &str| discovery(&accept(value)).ok();
        assert_eq!(of(&format!("{v2},{v2beta1},application/json")), Some(Discovery::V2));
        assert_eq!(of(&format!("{v2};profile=nopeer,{v2},{v2beta1}")), Some(Discovery::V2));
        assert_eq!(of(&format!("{v2beta1},application/json")), Some(Discovery::V2Beta1));
        assert_eq!(of("application/json"), Some(Discovery::Legacy));
        assert_eq!(of("application/json;g=apidiscovery.k8s.io;v=v9;as=APIGroupDiscoveryList"), None);
    }

    proptest! {
        #[test]
        fn any_header_is_answered(value in "[ -~]{0,80}") {
            let _ = resource(&accept(&value), Shape::List);
            let _ = discovery(&accept(&value));
        }
    }
}
