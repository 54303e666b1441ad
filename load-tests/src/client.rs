//! One request at a time over pooled HTTP/1.1 connections, or as a call of gRPC.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, Uri, body::Incoming};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::{Result, grpc::Grpc, tally::Outcome};

pub(crate) struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    url: Uri,
    images: Vec<Bytes>,
    /// Where images go instead.
    grpc: Option<Grpc>,
    timeout: Duration,
}

impl Client {
    pub(crate) fn new(url: Uri, images: Vec<Bytes>, timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            pool: Pool::builder(TokioExecutor::new()).build(connector),
            url,
            images,
            grpc: None,
            timeout,
        }
    }

    /// The same with its images sent as calls of gRPC.
    pub(crate) fn over(self, grpc: Grpc) -> Self {
        Self {
            grpc: Some(grpc),
            ..self
        }
    }

    /// Posts the image whose turn it is and reads the whole answer.
    pub(crate) async fn classify(&self, number: u64) -> Outcome {
        let turn = (number % self.images.len() as u64) as usize;
        let answer = async {
            match &self.grpc {
                Some(grpc) => grpc.infer(turn).await,
                None => {
                    let image = self.images[turn].clone();
                    let answer = self.exchange(Method::POST, self.url.clone(), image);
                    Ok(answer.await?.0)
                }
            }
        };
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(status)) => Outcome::Answer(status),
            Ok(Err(_)) => Outcome::ConnectionFailed,
            Err(_) => Outcome::TimedOut,
        }
    }

    /// Gets a text.
    ///
    /// # Errors
    /// When there is no answer in time, or one without success, or one that is not UTF-8.
    pub(crate) async fn get(&self, url: Uri) -> Result<String> {
        let answer = self.exchange(Method::GET, url.clone(), Bytes::new());
        let (status, body) = tokio::time::timeout(self.timeout, answer)
            .await
            .map_err(|_| format!("GET {url}: no answer within {:?}", self.timeout))?
            .map_err(|e| format!("GET {url}: {e}"))?;
        if status != 200 {
            return Err(format!("GET {url}: answered {status}").into());
        }
        Ok(String::from_utf8(body.into())?)
    }

    async fn exchange(&self, method: Method, url: Uri, body: Bytes) -> Result<(u16, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(url)
            .body(Full::new(body))?;
        let response: Response<Incoming> = self.pool.request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

#[cfg(test)]
pub(crate) mod tests;
