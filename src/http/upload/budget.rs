//! Memory for bodies, all together, and how it is shared among clients.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Error, Result, http::client_address::Client};

/// Memory for bodies that are being read or worked on, all together. It is taken as bytes arrive:
/// an announced length costs a client nothing and is worth nothing. A body that does not fit is
/// refused, for waiting would hold what is there of it for nothing.
///
/// Each client may hold so many times what is free (Choudhury and Hahne, *Dynamic queue length
/// thresholds for shared-memory packet switches*, 1998): one alone gets four fifths of everything,
/// and however many hold how much, a newcomer finds room.
#[derive(Clone, Debug)]
pub struct UploadBudget(Arc<Mutex<Shares>>);

#[derive(Debug)]
struct Shares {
    free: u64,
    /// What clients hold, if anything.
    held: HashMap<Client, u64>,
}

/// How many times the free memory one client may hold.
const TIMES_FREE: u64 = 4;

impl UploadBudget {
    /// A budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(Shares {
            free: bytes,
            held: HashMap::new(),
        })))
    }

    /// Reservation for a body of which nothing has come, refused if there were none for so many bytes now.
    /// `single` is the longest body, for which alone there is room as long as any is free.
    ///
    /// # Errors
    /// [`Error::Overloaded`].
    pub(in crate::http) fn open(
        &self,
        client: Client,
        announced: u64,
        single: u64,
    ) -> Result<Reservation> {
        if !self.shares().fits(client, announced, single) {
            return Err(full());
        }
        Ok(Reservation {
            budget: self.clone(),
            client,
            single,
            bytes: 0,
        })
    }

    /// Nothing that holds this lock leaves the shares half changed.
    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shares {
    fn fits(&self, client: Client, more: u64, single: u64) -> bool {
        let Some(left) = self.free.checked_sub(more) else {
            return false;
        };
        let held = self.held.get(&client).copied().unwrap_or_default() + more;
        held <= single.max(left.saturating_mul(TIMES_FREE))
    }
}

fn full() -> Error {
    Error::Overloaded {
        retry_after: Duration::from_secs(1),
    }
}

/// What one body takes of the memory; given back when dropped.
#[derive(Debug)]
pub(in crate::http) struct Reservation {
    budget: UploadBudget,
    client: Client,
    single: u64,
    bytes: u64,
}

impl Reservation {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when there is no room for them, for this client.
    pub(in crate::http) fn take(&mut self, more: u64) -> Result<()> {
        let mut shares = self.budget.shares();
        if !shares.fits(self.client, more, self.single) {
            return Err(full());
        }
        shares.free -= more;
        *shares.held.entry(self.client).or_default() += more;
        self.bytes += more;
        Ok(())
    }

    /// Takes what is missing to so many bytes.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub(in crate::http) fn take_up_to(&mut self, bytes: u64) -> Result<()> {
        self.take(bytes.saturating_sub(self.bytes))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut shares = self.budget.shares();
        shares.free += self.bytes;
        if let Some(held) = shares.held.get_mut(&self.client) {
            *held -= self.bytes;
            if *held == 0 {
                shares.held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Owner;

    const MIB: u64 = 1 << 20;

    fn client(number: u64) -> Client {
        Client::Key(Owner::of_key(number))
    }

    /// Bodies of a MiB that a client gets room for.
    fn fill(budget: &UploadBudget, number: u64) -> Vec<Reservation> {
        let mut reservations = Vec::new();
        while let Ok(mut reservation) = budget.open(client(number), MIB, MIB) {
            reservation.take(MIB).unwrap();
            reservations.push(reservation);
        }
        reservations
    }

    #[test]
    fn an_announced_length_takes_nothing() {
        let budget = UploadBudget::new(10 * MIB);
        let silent: Vec<Reservation> = (0..1000)
            .map(|_| budget.open(client(1), 10 * MIB, 10 * MIB).unwrap())
            .collect();
        let mut whole = budget.open(client(2), 10 * MIB, 10 * MIB).unwrap();
        whole.take(10 * MIB).unwrap();
        assert!(budget.open(client(3), 1, 10 * MIB).is_err());
        drop((silent, whole));
        assert!(budget.shares().held.is_empty());
        assert_eq!(budget.shares().free, 10 * MIB);
    }

    #[test]
    fn one_client_leaves_a_fifth_to_others_and_a_crowd_leaves_some() {
        let budget = UploadBudget::new(500 * MIB);
        let alone = fill(&budget, 1);
        assert_eq!(alone.len(), 400);
        // By the formula: n clients hold 4n/(4n + 1) of everything when each takes what it may.
        let second = fill(&budget, 2);
        assert!((1..=100).contains(&second.len()), "{}", second.len());
        let third = fill(&budget, 3);
        assert!(!third.is_empty());
        drop(alone);
        assert!(!fill(&budget, 4).is_empty());
    }

    #[test]
    fn a_single_body_fits_as_long_as_there_is_room_for_it() {
        let budget = UploadBudget::new(10 * MIB);
        let mut reservation = budget.open(client(1), 9 * MIB, 9 * MIB).unwrap();
        reservation.take(4 * MIB).unwrap();
        reservation.take_up_to(9 * MIB).unwrap();
        reservation.take_up_to(9 * MIB).unwrap();
        assert!(reservation.take(2 * MIB).is_err());
        assert_eq!(budget.shares().free, MIB);
    }
}
