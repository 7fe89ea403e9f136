//! The certificate against populations made to deceive it.

use super::super::draws::Draws;
use super::*;
use proptest::prelude::*;

const CEILING: f64 = 10.0;

/// Orders that each population is tried in.
fn seeds() -> u64 {
    if std::env::var_os("TAMIS_LONG").is_some() { 100_000 } else { 300 }
}

/// Populations of 60 that lie just on one side of the edge, each with a name.
fn adversaries() -> Vec<(&'static str, Vec<f64>)> {
    let few = |most: usize, high: f64, low: f64| (0..60).map(|at| if at < most { high } else { low }).collect();
    let drawn = |seed: u64| {
        let mut draws = Draws::new(seed, &[]);
        (0..60).map(|_| (-2.0 * draws.unit().ln()).min(CEILING)).collect::<Vec<f64>>()
    };
    vec![
        ("one token holds everything", few(1, CEILING, 0.0)),
        ("one token lifts all the others over the edge", few(1, CEILING, 3.0)),
        ("one token draws all the others below it", few(1, 0.0, 6.0)),
        ("a few tokens at the ceiling", few(6, CEILING, 0.0)),
        ("half at either end", few(30, CEILING, 0.0)),
        ("nearly all at the ceiling", few(57, CEILING, 0.0)),
        ("all alike", few(60, 4.0, 4.0)),
        ("two values close together", few(30, 4.1, 3.9)),
        ("as text is", drawn(1)),
    ]
}

/// A stopping rule under test: the cell that it decides on for losses in their order, and how many it looked at.
type Rule = fn(&[f64], &[f64], f64) -> (Option<Cell>, usize);

fn certified(losses: &[f64], edges: &[f64], delta: f64) -> (Option<Cell>, usize) {
    run(losses, edges, Some(CEILING), delta)
}

fn certified_without_ceiling(losses: &[f64], edges: &[f64], delta: f64) -> (Option<Cell>, usize) {
    run(losses, edges, None, delta)
}

fn run(losses: &[f64], edges: &[f64], ceiling: Option<f64>, delta: f64) -> (Option<Cell>, usize) {
    let mut certificate = Certificate::new(edges, losses.len(), ceiling, delta);
    for (at, loss) in losses.iter().enumerate() {
        if let Some(cell) = certificate.cell() {
            return (Some(cell), at);
        }
        certificate.reveal(*loss);
    }
    (certificate.cell(), losses.len())
}

/// What one is tempted to do instead: to look at a t statistic after each loss, and stop when it is large. It is there so that the test can fail.
fn peeking(losses: &[f64], edges: &[f64], delta: f64) -> (Option<Cell>, usize) {
    let z = (2.0 * (1.0 / delta).ln()).sqrt();
    let (mut sum, mut squares) = (0.0, 0.0);
    for (at, loss) in losses.iter().enumerate() {
        let n = as_f64(at + 1);
        (sum, squares) = (sum + loss, squares + loss * loss);
        let (mean, edge) = (sum / n, edges[0] / as_f64(losses.len()));
        let error = ((squares / n - mean * mean).max(1e-9) / n).sqrt();
        if at >= 5 && (mean - edge).abs() > z * error {
            let above = mean > edge;
            let edge = Some(edges[0]);
            return (Some(Cell { above: edge.filter(|_| above), below: edge.filter(|_| !above) }), at);
        }
    }
    (None, losses.len())
}

/// How many of the orders make `rule` tell something wrong of `losses`, whose sum is compared with `edges`.
fn errors(rule: Rule, losses: &[f64], edges: &[f64], delta: f64) -> u64 {
    let sum: f64 = losses.iter().sum();
    let wrong = |seed: &u64| {
        let order = Draws::new(*seed, &[9]).order(losses.len());
        let drawn: Vec<f64> = order.iter().map(|at| losses[*at as usize]).collect();
        let cell = rule(&drawn, edges, delta).0.unwrap_or_default();
        // On an edge, either side is no error that a verdict could show: rules are inclusive. A hair beyond it is.
        cell.above.is_some_and(|edge| sum <= edge) || cell.below.is_some_and(|edge| sum >= edge)
    };
    (0..seeds()).filter(wrong).count() as u64
}

/// The most errors that a true rate of `delta` explains: four standard deviations above its mean.
fn allowed(delta: f64) -> u64 {
    let mean = seeds() as f64 * delta;
    (mean + 4.0 * mean.sqrt().max(0.5)) as u64
}

/// Edges a hair above the sum, a hair below it, on it, and somewhat off.
fn edges(losses: &[f64]) -> Vec<Vec<f64>> {
    let sum: f64 = losses.iter().sum();
    let off = |nats: f64| sum + nats;
    vec![
        vec![off(1e-6)],
        vec![off(-1e-6)],
        vec![off(1.0)],
        vec![off(-1.0)],
        vec![off(12.0)],
        vec![off(-12.0)],
        vec![off(-20.0), off(-1.0), off(1e-6), off(15.0)],
    ]
}

#[test]
fn no_population_is_told_wrong_more_often_than_promised() {
    for (name, losses) in adversaries() {
        for edges in edges(&losses) {
            for delta in [0.05, 0.001] {
                let limit = allowed(delta);
                for rule in [certified as Rule, certified_without_ceiling] {
                    let errors = errors(rule, &losses, &edges, delta);
                    assert!(errors <= limit, "{name}, {edges:?}: {errors} of {} wrong at {delta}", seeds());
                }
            }
        }
    }
}

#[test]
fn the_same_trial_finds_a_rule_that_peeks() {
    let found = adversaries()
        .iter()
        .any(|(_, losses)| edges(losses).iter().any(|edges| errors(peeking, losses, edges, 0.001) > allowed(0.001)));
    assert!(found);
}

#[test]
fn far_edges_are_decided_early_and_near_ones_late_or_exactly() {
    let mut draws = Draws::new(3, &[]);
    let losses: Vec<f64> = (0..500).map(|_| (-3.0 * draws.unit().ln()).min(CEILING)).collect();
    let sum: f64 = losses.iter().sum();
    let looked = |nats: f64| certified(&losses, &[sum + nats * 500.0], 0.001).1;
    assert!(looked(3.0) < 150 && looked(-2.0) < 150, "{} {}", looked(3.0), looked(-2.0));
    assert!(looked(3.0) < looked(1.0) && looked(1.0) < looked(0.3));
    assert_eq!(certified(&losses, &[sum + 1e-3], 0.001).0, Some(Cell { above: None, below: Some(sum + 1e-3) }));
}

#[test]
fn without_a_ceiling_nothing_is_told_below_before_the_end() {
    let losses = [0.5; 300];
    let (cell, looked) = certified_without_ceiling(&losses, &[1500.0], 0.01);
    assert_eq!((cell, looked), (Some(Cell { above: None, below: Some(1500.0) }), 300));
    let (cell, looked) = certified_without_ceiling(&[5.0; 300], &[300.0], 0.01);
    assert!(cell == Some(Cell { above: Some(300.0), below: None }) && looked < 30, "{looked}");
}

#[test]
fn losses_out_of_range_void_the_certificate() {
    let mut certificate = Certificate::new(&[5.0], 100, Some(CEILING), 0.5);
    certificate.reveal(CEILING + 1.0);
    (0..99).for_each(|_| certificate.reveal(0.0));
    assert_eq!(certificate.cell(), None);
    let mut certificate = Certificate::new(&[5.0], 100, None, 0.5);
    certificate.reveal(-1.0);
    (0..99).for_each(|_| certificate.reveal(9.0));
    assert_eq!(certificate.cell(), None);
}

#[test]
fn what_no_losses_could_change_is_told_at_once() {
    assert_eq!(Certificate::new(&[], 10, None, 0.1).cell(), Some(Cell::default()));
    let below = Certificate::new(&[-1.0], 10, None, 0.1).cell();
    assert_eq!(below, Some(Cell { above: Some(-1.0), below: None }));
    assert_eq!(Certificate::new(&[f64::NEG_INFINITY, f64::NAN], 10, None, 0.1).cell().unwrap().below, None);
    let above = Certificate::new(&[10.0 * CEILING + 1.0], 10, Some(CEILING), 0.1).cell();
    assert_eq!(above, Some(Cell { above: None, below: Some(101.0) }));
}

#[test]
fn a_cell_holds_what_lies_in_it() {
    let cell = Cell { above: Some(1.0), below: Some(2.0) };
    assert_eq!(cell.hold(1.5), 1.5);
    assert!(cell.holds(1.5) && !cell.holds(1.0) && !cell.holds(2.5) && Cell::default().holds(9.0));
    assert!(cell.hold(0.0) > 1.0 && cell.hold(0.0) < 1.0 + 1e-8);
    assert!(cell.hold(9.0) < 2.0 && Cell::default().hold(9.0) == 9.0);
}

proptest! {
    #[test]
    fn exhausting_the_losses_decides_every_edge_that_the_sum_is_not_on(
        losses in prop::collection::vec(0.0..CEILING, 1..40), edges in prop::collection::vec(-5.0..300.0, 0..5), ceiling in any::<bool>(),
    ) {
        // No wealth can reach 1/δ here, so that only certainty decides.
        let mut certificate = Certificate::new(&edges, losses.len(), ceiling.then_some(CEILING), 1e-300);
        losses.iter().for_each(|loss| certificate.reveal(*loss));
        let sum: f64 = losses.iter().sum();
        prop_assume!(edges.iter().all(|edge| (sum - edge).abs() > 1e-2));
        let cell = certificate.cell().unwrap();
        let above = edges.iter().copied().filter(|edge| *edge < sum).fold(None, |most: Option<f64>, e| Some(most.map_or(e, |m| m.max(e))));
        let below = edges.iter().copied().filter(|edge| *edge > sum).fold(None, |least: Option<f64>, e| Some(least.map_or(e, |m| m.min(e))));
        prop_assert_eq!(cell, Cell { above, below });
    }
}
