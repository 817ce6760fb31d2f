//! Large answers for clients that take them compressed, by the rules of `k8s.io/apiserver`: gzip, at its quickest, from
//! 128 KiB on.

use std::io::Write as _;

use axum::{
    body::{Body, Bytes, HttpBody as _},
    response::Response,
};
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY},
};
use http_body_util::BodyExt as _;
use tokio::task::spawn_blocking;

/// Bytes below which compression costs more than it saves.
const LEAST: u64 = 128 * 1024;

/// `response`, which is in memory as a whole, as the client that sent `headers` wants it.
pub(super) async fn compressed(response: Response, headers: &HeaderMap) -> Response {
    let is_large = response.body().size_hint().exact().is_some_and(|size| size >= LEAST);
    if !is_large || response.status() != StatusCode::OK || !takes_gzip(headers) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await else {
        return Response::from_parts(parts, Body::empty());
    };
    let plain = body.to_bytes();
    let copy = plain.clone();
    // It takes milliseconds, which reads of HPAs should not wait for.
    match spawn_blocking(move || gzip(&copy)).await {
        Ok(Ok(small)) => {
            parts.headers.remove(CONTENT_LENGTH);
            parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
            Response::from_parts(parts, Body::from(small))
        }
        _ => Response::from_parts(parts, Body::from(plain)),
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|encoding| encoding.trim() == "gzip")
}

fn gzip(plain: &Bytes) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    async fn answer(size: usize, status: StatusCode, accepts: Option<&str>) -> (HeaderMap, Bytes) {
        let mut response = Response::new(Body::from("wva ".repeat(size / 4)));
        *response.status_mut() = status;
        let mut headers = HeaderMap::new();
        if let Some(accepts) = accepts {
            headers.insert(ACCEPT_ENCODING, accepts.parse().unwrap());
        }
        let (parts, body) = compressed(response, &headers).await.into_parts();
        (parts.headers, body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn a_large_answer_is_compressed_for_whoever_takes_it_and_no_other_is() {
        let large = 128 * 1024;
        for (size, status, accepts, expected) in [
            (large, StatusCode::OK, Some("gzip"), true),
            (large, StatusCode::OK, Some("br, gzip"), true),
            (large, StatusCode::OK, Some("gzip;q=0"), false),
            (large, StatusCode::OK, None, false),
            (large - 4, StatusCode::OK, Some("gzip"), false),
            (large, StatusCode::INTERNAL_SERVER_ERROR, Some("gzip"), false),
        ] {
            let (headers, body) = answer(size, status, accepts).await;
            let case = format!("{size} {status} {accepts:?}");
            assert_eq!(headers.contains_key(CONTENT_ENCODING), expected, "{case}");
            let plain = if expected {
                assert!(body.len() < size / 10, "{case}: {}", body.len());
                assert_eq!(headers[VARY], "Accept-Encoding");
                let mut text = String::new();
                flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
                text
            } else {
                String::from_utf8(body.to_vec()).unwrap()
            };
            assert_eq!(plain, "wva ".repeat(size / 4), "{case}");
        }
    }
}
