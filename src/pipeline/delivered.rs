//! Owns what is told of a batch once it is delivered: series and board, a batch at a time, because a lock or a look-up for each record would cost more than
//! its journey. Must not know: how it was delivered.

use crate::corpus::{Judged, Parcel, Route};
use crate::telemetry::{Board, metrics};

/// Tells of every record of a batch.
pub(super) fn tell(parcels: &[Parcel<Judged>], board: &Board) {
    let mut routes = [0_u64; Route::ALL.len()];
    for Parcel { body, .. } in parcels {
        match body {
            Judged::Document { verdict, .. } => routes[Route::from(verdict.decision) as usize] += 1,
            Judged::Tombstone { .. } => {
                metrics::tombstone_forwarded();
                board.tombstone_forwarded();
            }
            Judged::Dead { fault, .. } => {
                metrics::dead_lettered(fault);
                routes[Route::DeadLetter as usize] += 1;
            }
        }
    }
    for route in Route::ALL {
        let count = routes[route as usize];
        if count > 0 {
            metrics::delivered(route, count);
            board.delivered(route, count);
        }
    }
    metrics::delivered_in(parcels.iter().filter_map(|parcel| match &parcel.body {
        Judged::Document { verdict, document, .. } => {
            Some((Route::from(verdict.decision), document.language.as_deref()))
        }
        Judged::Tombstone { .. } | Judged::Dead { .. } => None,
    }));
    board.witness(parcels.iter().map(|parcel| &parcel.body));
}
