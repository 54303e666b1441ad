//! Maps in Redis or Valkey, which all replicas share.
//!
//! A map and its picture are two values under names made of a digest of the id: whoever can list
//! the server's keys still cannot ask for a map. Pictures are sealed with the signing key. Values go
//! when their time is over; what they take together is bounded by the server's own `maxmemory`,
//! what each may take by us.
//!
//! While the server is away, maps are not kept and cannot be shown, and nothing else happens:
//! classification goes on, and the server is tried once a second.

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
    Found, KeptMap, MapId, NotKept, Owner, Receipt, RedisAddress, SigningKeys, absence::Absence,
    entry, keys::Purpose,
};
use crate::{
    Error, Result,
    metrics::{Metrics, StoreAction},
};

/// Maps in Redis. A handle; clones share the connection.
#[derive(Clone, Debug)]
pub struct RedisStore {
    link: Arc<Link>,
    keys: Option<SigningKeys>,
    ttl: Duration,
}

impl RedisStore {
    /// The largest map: one of ViT-H/14 with all heads takes 2.6 MB.
    const LARGEST_MAP: usize = 8 << 20;

    /// The largest picture: JPEG of at most 1024 × 1024 pixels, usually about 100 kB.
    const LARGEST_PICTURE: usize = 2 << 20;

    /// Connects when it is first used. Without keys no picture is kept.
    pub fn new(
        address: RedisAddress,
        keys: Option<SigningKeys>,
        ttl: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            link: Arc::new(Link {
                address,
                connection: Mutex::default(),
                absence: Absence::default(),
                metrics,
            }),
            keys,
            ttl,
        }
    }

    /// Whether there are keys to seal pictures with.
    pub fn takes_pictures(&self) -> bool {
        self.keys.is_some()
    }

    pub(super) async fn keep(
        &self,
        map: &KeptMap,
        picture: Option<Bytes>,
        now: u64,
    ) -> std::result::Result<Receipt, NotKept> {
        let id = MapId::random()?;
        let entry = entry::write(map, now.saturating_add(self.ttl.as_secs()));
        if entry.len() > Self::LARGEST_MAP {
            return Err(NotKept::TooLarge);
        }
        let seconds = self.ttl.as_secs().max(1);
        let names = Names::of(id);
        let mut pipeline = Pipeline::new();
        pipeline.set_ex(names.map, entry, seconds).ignore();
        let picture = picture.filter(|jpeg| jpeg.len() <= Self::LARGEST_PICTURE);
        if let (Some(keys), Some(jpeg)) = (&self.keys, picture) {
            let sealed = keys.seal(Purpose::Picture(id.bytes()), &jpeg)?;
            pipeline.set_ex(names.picture, sealed, seconds).ignore();
        }
        let () =
            self.link
                .ask(StoreAction::Keep, &pipeline)
                .await
                .map_err(|failure| match failure {
                    Failure::Full => NotKept::Full,
                    Failure::Away => NotKept::Away,
                })?;
        Ok(Receipt {
            id: id.to_string(),
            maps: map.kinds(),
            expires_in: self.ttl,
        })
    }

    pub(super) async fn find(&self, id: &str, owner: Owner, now: u64) -> Result<Found> {
        let id: MapId = id.parse()?;
        let Names { map, picture } = Names::of(id);
        let mut pipeline = Pipeline::new();
        pipeline.get(map).get(picture);
        let (entry, sealed): (Option<Vec<u8>>, Option<Vec<u8>>) =
            self.link.ask(StoreAction::Find, &pipeline).await?;

        let (map, expires_in_s) = entry
            .and_then(|entry| entry::read(&entry, now))
            .filter(|(map, _)| map.owner == owner)
            .ok_or(Error::NoSuchMap)?;
        let picture = self.keys.as_ref().zip(sealed).and_then(|(keys, sealed)| {
            let jpeg = keys.open(Purpose::Picture(id.bytes()), &sealed)?;
            Some(jpeg.into())
        });
        Ok(Found {
            map,
            picture,
            expires_in_s,
        })
    }

    pub(super) async fn forget(
        &self,
        id: &str,
        owner: Owner,
        now: u64,
    ) -> Result<Option<[u8; 32]>> {
        let found = self.find(id, owner, now).await?;
        let Names { map, picture } = Names::of(id.parse()?);
        let mut pipeline = Pipeline::new();
        pipeline.unlink(&[map, picture]).ignore();
        let () = self.link.ask(StoreAction::Forget, &pipeline).await?;
        Ok(found.map.result)
    }
}

/// What a map's values are called. The braces keep both on one node of a cluster.
struct Names {
    map: String,
    picture: String,
}

impl Names {
    fn of(id: MapId) -> Self {
        let digest = Sha256::new()
            .chain_update(b"patchlight map 1")
            .chain_update(id.bytes())
            .finalize();
        let digest = URL_SAFE_NO_PAD.encode(&digest[..16]);
        Self {
            map: format!("patchlight:{{{digest}}}:map"),
            picture: format!("patchlight:{{{digest}}}:picture"),
        }
    }
}

/// Why there is no answer; the log and the metrics have the details.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Failure {
    /// It does not answer, or not as it should.
    Away,
    /// It has no room and may not make any.
    Full,
}

impl From<Failure> for Error {
    fn from(_: Failure) -> Self {
        Self::StoreAway {
            retry_after: Absence::PAUSE,
        }
    }
}

/// One connection that all requests share, made anew when it fails.
struct Link {
    address: RedisAddress,
    connection: Mutex<Option<MultiplexedConnection>>,
    absence: Absence,
    metrics: Arc<Metrics>,
}

impl Link {
    /// How long an answer may take, connecting included.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Sends commands and reads their answers.
    async fn ask<T: FromRedisValue>(
        &self,
        action: StoreAction,
        commands: &Pipeline,
    ) -> std::result::Result<T, Failure> {
        if !self.absence.try_at(Instant::now()) {
            self.metrics.store_failed(action);
            return Err(Failure::Away);
        }
        let talk = async {
            let mut connection = self.connection().await?;
            commands.query_async::<T>(&mut connection).await
        };
        let why = match timeout(Self::PATIENCE, talk).await {
            Ok(Ok(answer)) => {
                if self.absence.worked() {
                    tracing::info!(address = %self.address, "the map store is back");
                }
                return Ok(answer);
            }
            Ok(Err(why)) => Fault::of(why),
            Err(_) => Fault {
                full: false,
                what: "no answer in time".to_owned(),
            },
        };
        self.metrics.store_failed(action);
        if why.full {
            // It is there, and what it keeps can be had.
            self.absence.worked();
            tracing::warn!(address = %self.address, "the map store is full: set maxmemory-policy");
            return Err(Failure::Full);
        }
        // Whatever it was, a new connection is the surest way back.
        if let Ok(mut connection) = self.connection.try_lock() {
            *connection = None;
        }
        if self.absence.failed(Instant::now()) {
            tracing::error!(address = %self.address, why = why.what, "the map store is away");
        }
        Err(Failure::Away)
    }

    /// The connection, made now if there is none.
    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = &*kept {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Self::PATIENCE))
            .set_response_timeout(Some(Self::PATIENCE));
        let client = self.address.client();
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        self.look_at_bounds(&mut connection).await;
        *kept = Some(connection.clone());
        Ok(connection)
    }

    /// Warns when the server has no bound, or one at which it refuses maps instead of dropping the
    /// oldest. A server that does not say is trusted.
    async fn look_at_bounds(&self, connection: &mut MultiplexedConnection) {
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
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("address", &self.address)
            .field("absence", &self.absence)
            .finish_non_exhaustive()
    }
}

/// What is wrong, without the server's free text.
struct Fault {
    /// It refused a write because of its `maxmemory`.
    full: bool,
    what: String,
}

impl Fault {
    fn of(why: RedisError) -> Self {
        let category = why.category().to_owned();
        // Of several commands each may have its own.
        let errors = why.into_server_errors().unwrap_or_default();
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
