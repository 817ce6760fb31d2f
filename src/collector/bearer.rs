//! Bearer tokens, which rotate.

use http::HeaderValue;

use crate::config::BearerToken;

/// Why a token cannot be sent.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the bearer token {place} cannot be used: {message}")]
pub(super) struct UnusableToken {
    place: String,
    message: String,
}

/// The value of the `Authorization` header. A token in a file is read every time: kubelet rotates projected tokens.
pub(super) async fn authorization(token: &BearerToken) -> Result<HeaderValue, UnusableToken> {
    let (place, token) = match token {
        BearerToken::Literal(token) => ("in the environment".to_owned(), token.expose().to_owned()),
        BearerToken::File(path) => {
            let place = format!("in {}", path.display());
            match tokio::fs::read_to_string(path).await {
                Ok(token) => (place, token),
                Err(error) => return Err(UnusableToken { place, message: error.to_string() }),
            }
        }
    };
    let failed = |message: &str| UnusableToken { place: place.clone(), message: message.to_owned() };
    let token = token.trim();
    if token.is_empty() {
        return Err(failed("it is empty"));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| failed("it holds characters HTTP does not allow in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}
