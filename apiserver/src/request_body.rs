//! Bodies of requests for subresources, read whole within limits.

use std::time::Duration;

use gatehouse_serving::{ApiError, body::RequestBody};
use http_body_util::BodyExt;

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// The whole body of a request, of at most `most` bytes.
pub(crate) async fn read(mut body: RequestBody, most: usize) -> Result<Vec<u8>, ApiError> {
    let read = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::bad_request("the body ended early"))?;
            let Some(data) = frame.data_ref() else { continue };
            if bytes.len() + data.len() > most {
                return Err(ApiError::too_large(most));
            }
            bytes.extend_from_slice(data);
        }
        Ok(bytes)
    };
    let late = |_| Err(ApiError::timeout("the body did not arrive in time"));
    tokio::time::timeout(BODY_PATIENCE, read).await.unwrap_or_else(late)
}
