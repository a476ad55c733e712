//! Compresses large responses with gzip.
//!
//! Like `deferredResponseWriter` of k8s.io/apiserver, it compresses responses above 128 KiB, at the fastest
//! level, for clients that accept gzip, as client-go and kubectl do by default. A response is compressed
//! while it is read, so that neither form is ever held as a whole. For a list in JSON this takes half as much
//! CPU again, and leaves a twentieth of the bytes to encrypt and send.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, header};

use gatehouse_serving::{
    Body,
    body::{full, streamed},
    negotiate::{Form, accepts_gzip},
};

/// Responses up to this size fit in a few packets, and compressing them gains nothing (kubernetes#112296).
const THRESHOLD: usize = 128 << 10;
/// The level that takes the least CPU; the next would save a quarter of the remaining bytes.
const LEVEL: Compression = Compression::fast();
/// Compressed bytes per frame of the body. One piece compresses to far less, and each frame and wake-up has a
/// cost.
const CHUNK: usize = 32 << 10;

/// The response that consists of `pieces`, compressed if it is long and the client accepts gzip.
pub(crate) fn respond(
    form: Form,
    request: &HeaderMap,
    mut pieces: impl Iterator<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    let mut first = Vec::new();
    let mut length = 0;
    while length <= THRESHOLD
        && let Some(piece) = pieces.next()
    {
        length += piece.len();
        first.push(piece);
    }
    let is_long = length > THRESHOLD;
    let zipped = is_long && accepts_gzip(request);
    let mut response = Response::new(match first.len() {
        _ if zipped => streamed(futures::stream::iter(Gzip::new(first.into_iter().chain(pieces)))),
        0 | 1 if !is_long => full(first.pop().unwrap_or_default()),
        _ => streamed(futures::stream::iter(first.into_iter().chain(pieces))),
    });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, form.content_type());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if is_long {
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    if zipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// An iterator over the compressed bytes of `pieces`.
struct Gzip<I> {
    pieces: I,
    /// `None` once the end has been written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I: Iterator<Item = Bytes>> Gzip<I> {
    fn new(pieces: I) -> Self {
        Self { pieces, encoder: Some(GzEncoder::new(Vec::with_capacity(CHUNK + CHUNK / 4), LEVEL)) }
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Gzip<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        const MEMORY: &str = "writing to memory does not fail";
        let encoder = self.encoder.as_mut()?;
        while encoder.get_ref().len() < CHUNK {
            match self.pieces.next() {
                Some(piece) => encoder.write_all(&piece).expect(MEMORY),
                None => return self.encoder.take().map(|encoder| encoder.finish().expect(MEMORY).into()),
            }
        }
        let next = Vec::with_capacity(CHUNK + CHUNK / 4);
        Some(std::mem::replace(encoder.get_mut(), next).into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use futures::FutureExt as _;
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;

    use super::*;

    fn taking_gzip() -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))])
    }

    /// The headers and the body of the response to a request.
    fn answer(request: &HeaderMap, pieces: Vec<Bytes>) -> (HeaderMap, Bytes) {
        let (head, body) = respond(Form::Json, request, pieces.into_iter()).into_parts();
        let body = body.collect().now_or_never().expect("nothing to wait for");
        (head.headers, body.expect("whole").to_bytes())
    }

    fn unzipped(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        GzDecoder::new(bytes).read_to_end(&mut text).expect("gzip");
        text
    }

    #[test]
    fn long_answers_are_compressed_for_those_who_take_that() {
        let pieces = vec![Bytes::from(vec![b'x'; 50_000]); 3];
        let (headers, body) = answer(&taking_gzip(), pieces.clone());
        assert_eq!(
            (&headers[header::CONTENT_ENCODING], &headers[header::VARY]),
            (&"gzip".parse().unwrap(), &"Accept-Encoding".parse().unwrap())
        );
        assert!(body.len() < 2_000);
        assert_eq!(unzipped(&body), pieces.concat());
        let (headers, body) = answer(&HeaderMap::new(), pieces.clone());
        assert!(!headers.contains_key(header::CONTENT_ENCODING) && headers.contains_key(header::VARY));
        assert_eq!(body, pieces.concat());
    }

    #[test]
    fn short_answers_are_sent_as_they_are() {
        for pieces in [vec![], vec![Bytes::from(vec![b'x'; THRESHOLD])], vec![Bytes::from_static(b"x"); 3]] {
            let (headers, body) = answer(&taking_gzip(), pieces.clone());
            assert!(!headers.contains_key(header::CONTENT_ENCODING) && !headers.contains_key(header::VARY));
            assert_eq!(body, pieces.concat());
        }
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_out_again(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90_000), 0..6)) {
            let pieces: Vec<_> = pieces.into_iter().map(Bytes::from).collect();
            let (headers, body) = answer(&taking_gzip(), pieces.clone());
            let text = if headers.contains_key(header::CONTENT_ENCODING) { unzipped(&body) } else { body.to_vec() };
            prop_assert_eq!(text, pieces.concat());
        }
    }
}
