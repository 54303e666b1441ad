//! Three servers behind a real proxy, each killed in turn: a map is shown whichever server answers.

use crate::{
    client::{get, post},
    external_services::{free_port, haproxy, nginx, redis},
    process::Server,
    service::{map_of, sample},
    stores::{adds_up, keys, path},
};

const REPLICAS: usize = 3;

/// Servers with the same flags on ports of their own.
struct Replicas {
    flags: Vec<String>,
    addresses: Vec<String>,
    servers: Vec<Option<Server>>,
}

impl Replicas {
    fn start(flags: &[&str]) -> Self {
        let port = |_| format!("127.0.0.1:{}", free_port());
        // The proxies in front pass on the name of their group of servers.
        let named = ["--allowed-hosts", "patchlight"];
        let flags = named.iter().chain(flags);
        let mut replicas = Self {
            flags: flags.map(|&flag| flag.to_owned()).collect(),
            addresses: (0..REPLICAS).map(port).collect(),
            servers: Vec::new(),
        };
        for address in &replicas.addresses {
            let server = Server::start_at(address, &replicas.flags);
            replicas.servers.push(Some(server));
        }
        replicas
    }

    /// Ends one without warning.
    fn kill(&mut self, number: usize) {
        self.servers[number] = None;
    }

    fn restart(&mut self, number: usize) {
        let server = Server::start_at(&self.addresses[number], &self.flags);
        self.servers[number] = Some(server);
    }

    /// Those that run.
    fn alive(&self) -> impl Iterator<Item = &String> {
        let both = self.addresses.iter().zip(&self.servers);
        both.filter_map(|(address, server)| server.as_ref().map(|_| address))
    }
}

async fn each_map_is_shown_by_every_replica(flags: &[&str]) {
    let mut replicas = Replicas::start(flags);
    let nginx = nginx(&replicas.addresses);
    let haproxy = haproxy(&replicas.addresses);
    let proxies: Vec<_> = nginx
        .iter()
        .chain(&haproxy)
        .map(|proxy| proxy.address())
        .collect();

    // One of each replica.
    let mut maps = Vec::new();
    for address in &replicas.addresses {
        maps.push(map_of(&post(address, "/classify", sample("dog.jpg")).await));
    }
    for number in 0..REPLICAS {
        replicas.kill(number);
        for proxy in &proxies {
            let answer = post(proxy, "/classify", sample("rocket.jpg")).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            maps.push(map_of(&answer));
        }
        for map in &maps {
            for address in replicas.alive().chain(&proxies) {
                let shown = get(address, &format!("{map}?format=json")).await;
                assert_eq!(shown.status, 200, "{}", shown.text());
                adds_up(&shown.json());
            }
        }
        replicas.restart(number);
    }
}

#[tokio::test]
async fn signed_ids_need_nothing_but_the_key() {
    let keys = keys(&[1, 2]);
    let flags = [
        "--attention-store",
        "signed",
        "--signing-key-file",
        path(&keys),
    ];
    each_map_is_shown_by_every_replica(&flags).await;
}

#[tokio::test]
async fn maps_in_redis_are_everyone_s() {
    let Some(redis) = redis("a-password", &[]) else {
        return;
    };
    let keys = keys(&[1]);
    let store = format!("redis://:a-password@{}", redis.address());
    let flags = [
        "--attention-store",
        &store,
        "--signing-key-file",
        path(&keys),
    ];
    each_map_is_shown_by_every_replica(&flags).await;
}
