//! Maps in Redis or Valkey, which all replicas share.
//!
//! A map and its image are two values under names made of a digest of the id: a client that can
//! list the server's keys still cannot request a map. Images are sealed with the signing key.
//! Values go when their time is over; what they take together is bounded by the server's own
//! `maxmemory`, what each may take by us.
//!
//! While the server is away, maps are not kept and cannot be shown, and nothing else happens:
//! classification goes on, and the server is tried once a second.
//!
//! The connection is our own rather than redis' `ConnectionManager`, which connects again by itself
//! and lets requests wait for that on a schedule of its own: here one [`CircuitBreaker`] decides
//! when the server is tried, and a request in between has its answer at once.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use redis::{
    AsyncConnectionConfig, FromRedisValue, Pipeline, RedisError, RedisResult,
    aio::MultiplexedConnection,
};
use sha2::{Digest, Sha256};
use tokio::{sync::Mutex, time::timeout};

use super::{
    AttentionMap, FoundMap, MapId, Owner, RedisAddress, SealingKeys, StoreError, StoredMap,
    circuit_breaker::CircuitBreaker, codec, sealing_keys::Purpose,
};
use crate::{
    Error, Result,
    metrics::{Metrics, StoreAction},
};

/// Maps in Redis. A handle; clones share the connection.
#[derive(Clone, Debug)]
pub struct RedisStore {
    redis: Arc<RedisConnection>,
    keys: Option<SealingKeys>,
    ttl: Duration,
}

impl RedisStore {
    /// The largest map: one of ViT-H/14 with all heads takes 2.6 MB.
    const MAX_MAP_BYTES: usize = 8 << 20;

    /// The largest image: JPEG of at most 1024 × 1024 pixels, usually about 100 kB.
    const MAX_PREVIEW_BYTES: usize = 2 << 20;

    /// Connects when it is first used. Without keys no image is kept.
    pub fn new(
        address: RedisAddress,
        keys: Option<SealingKeys>,
        ttl: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            redis: Arc::new(RedisConnection {
                address,
                connection: Mutex::default(),
                breaker: CircuitBreaker::default(),
                metrics,
            }),
            keys,
            ttl,
        }
    }

    /// Whether there are keys to seal images with.
    pub fn keeps_previews(&self) -> bool {
        self.keys.is_some()
    }

    pub(super) async fn put(
        &self,
        map: &AttentionMap,
        preview: Option<Bytes>,
        now: u64,
    ) -> std::result::Result<StoredMap, StoreError> {
        let id = MapId::random()?;
        let record = codec::encode(map, now.saturating_add(self.ttl.as_secs()));
        if record.len() > Self::MAX_MAP_BYTES {
            return Err(StoreError::TooLarge);
        }
        let seconds = self.ttl.as_secs().max(1);
        let keys_of_map = RedisKeys::of(id);
        let mut pipeline = Pipeline::new();
        pipeline.set_ex(keys_of_map.map, record, seconds).ignore();
        let preview = preview.filter(|jpeg| jpeg.len() <= Self::MAX_PREVIEW_BYTES);
        if let (Some(keys), Some(jpeg)) = (&self.keys, preview) {
            let sealed = keys.seal(Purpose::Preview(id.bytes()), &jpeg)?;
            pipeline
                .set_ex(keys_of_map.preview, sealed, seconds)
                .ignore();
        }
        let () = self
            .redis
            .execute(StoreAction::Put, &pipeline)
            .await
            .map_err(|failure| match failure {
                RequestFailure::Full => StoreError::Full,
                RequestFailure::Unavailable => StoreError::Unavailable,
            })?;
        Ok(StoredMap {
            id: id.to_string(),
            maps: map.kinds(),
            expires_in: self.ttl,
        })
    }

    pub(super) async fn get(&self, id: &str, owner: Owner, now: u64) -> Result<FoundMap> {
        let id: MapId = id.parse()?;
        let RedisKeys { map, preview } = RedisKeys::of(id);
        let mut pipeline = Pipeline::new();
        pipeline.get(map).get(preview);
        let (record, sealed): (Option<Vec<u8>>, Option<Vec<u8>>) =
            self.redis.execute(StoreAction::Get, &pipeline).await?;

        let (map, expires_in_s) = record
            .and_then(|record| codec::decode(&record, now))
            .filter(|(map, _)| map.owner == owner)
            .ok_or(Error::NoSuchMap)?;
        let preview = self.keys.as_ref().zip(sealed).and_then(|(keys, sealed)| {
            let jpeg = keys.open(Purpose::Preview(id.bytes()), &sealed)?;
            Some(jpeg.into())
        });
        Ok(FoundMap {
            map,
            preview,
            expires_in_s,
        })
    }

    pub(super) async fn delete(
        &self,
        id: &str,
        owner: Owner,
        now: u64,
    ) -> Result<Option<[u8; 32]>> {
        let found = self.get(id, owner, now).await?;
        let RedisKeys { map, preview } = RedisKeys::of(id.parse()?);
        let mut pipeline = Pipeline::new();
        pipeline.unlink(&[map, preview]).ignore();
        let () = self.redis.execute(StoreAction::Delete, &pipeline).await?;
        Ok(found.map.result)
    }
}

/// The Redis keys of a map's values. The braces keep both on one node of a cluster.
struct RedisKeys {
    map: String,
    preview: String,
}

impl RedisKeys {
    fn of(id: MapId) -> Self {
        let digest = Sha256::new()
            .chain_update(b"patchlight map 1")
            .chain_update(id.bytes())
            .finalize();
        let digest = URL_SAFE_NO_PAD.encode(&digest[..16]);
        Self {
            map: format!("patchlight:{{{digest}}}:map"),
            preview: format!("patchlight:{{{digest}}}:picture"),
        }
    }
}

/// Why a request failed; the log and the metrics have the details.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RequestFailure {
    /// The server does not answer, or not as it should.
    Unavailable,
    /// The server has no room and may not evict.
    Full,
}

impl From<RequestFailure> for Error {
    fn from(_: RequestFailure) -> Self {
        Self::StoreUnavailable {
            retry_after: CircuitBreaker::RETRY_INTERVAL,
        }
    }
}

/// One connection that all requests share, rebuilt when it fails.
struct RedisConnection {
    address: RedisAddress,
    connection: Mutex<Option<MultiplexedConnection>>,
    breaker: CircuitBreaker,
    metrics: Arc<Metrics>,
}

impl RedisConnection {
    /// How long an answer may take, connecting included.
    const OPERATION_TIMEOUT: Duration = Duration::from_secs(1);

    /// Sends commands and reads their answers.
    async fn execute<T: FromRedisValue>(
        &self,
        action: StoreAction,
        commands: &Pipeline,
    ) -> std::result::Result<T, RequestFailure> {
        if !self.breaker.allows(Instant::now()) {
            self.metrics.store_failed(action);
            return Err(RequestFailure::Unavailable);
        }
        let exchange = async {
            let mut connection = self.connection().await?;
            commands.query_async::<T>(&mut connection).await
        };
        let error = match timeout(Self::OPERATION_TIMEOUT, exchange).await {
            Ok(Ok(answer)) => {
                if self.breaker.record_success() {
                    tracing::info!(address = %self.address, "the map store is back");
                }
                return Ok(answer);
            }
            Ok(Err(error)) => RedisFault::of(error),
            Err(_) => RedisFault {
                full: false,
                what: "no answer in time".to_owned(),
            },
        };
        self.metrics.store_failed(action);
        if error.full {
            // It is there, and what it keeps can be had.
            self.breaker.record_success();
            tracing::warn!(address = %self.address, "the map store is full: set maxmemory-policy");
            return Err(RequestFailure::Full);
        }
        // Whatever it was, a new connection is the surest way back.
        if let Ok(mut connection) = self.connection.try_lock() {
            *connection = None;
        }
        if self.breaker.record_failure(Instant::now()) {
            tracing::error!(address = %self.address, error = error.what, "the map store is away");
        }
        Err(RequestFailure::Unavailable)
    }

    /// The connection, made now if there is none.
    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let mut open = self.connection.lock().await;
        if let Some(connection) = &*open {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Self::OPERATION_TIMEOUT))
            .set_response_timeout(Some(Self::OPERATION_TIMEOUT));
        let client = self.address.client();
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        self.check_eviction_policy(&mut connection).await;
        *open = Some(connection.clone());
        Ok(connection)
    }

    /// Warns when the server has no bound, or one at which it refuses maps instead of dropping the
    /// oldest. A server that does not say is trusted.
    async fn check_eviction_policy(&self, connection: &mut MultiplexedConnection) {
        let mut info = redis::cmd("INFO");
        let Ok(memory) = info.arg("memory").query_async::<String>(connection).await else {
            return;
        };
        let value = |name: &str| {
            memory
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        if value("maxmemory") == Some("0") {
            tracing::warn!(
                address = %self.address,
                "the map store has no maxmemory: maps are bounded by their time only"
            );
        } else if value("maxmemory_policy") == Some("noeviction") {
            tracing::warn!(
                address = %self.address,
                "the map store has maxmemory-policy noeviction: when full it refuses new maps; \
                 volatile-ttl or allkeys-lru would drop old ones"
            );
        }
    }
}

/// The connection knows the password.
impl fmt::Debug for RedisConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConnection")
            .field("address", &self.address)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}

/// A Redis error without the server's free text.
struct RedisFault {
    /// It refused a write because of its `maxmemory`.
    full: bool,
    what: String,
}

impl RedisFault {
    fn of(error: RedisError) -> Self {
        let category = error.category().to_owned();
        // Of several commands each may have its own.
        let errors = error.into_server_errors().unwrap_or_default();
        let codes: Vec<&str> = errors.iter().map(|(_, error)| error.code()).collect();
        Self {
            full: codes.contains(&"OOM"),
            what: match codes.is_empty() {
                true => category,
                false => format!("{category}: {}", codes.join(", ")),
            },
        }
    }
}
