//! What a run answered, as hashes, to be compared with another run of the same operations.
//!
//! Every answer of every client is a hash with the operation that it belongs to; one more is that of the final state. What
//! two runs may rightly answer differently is not remembered in the first place, which is the runner's part.

use crate::oracle::Label;

/// The answers of a run; empty where nobody asked for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// By client, in order: the operation, and the hash of its answer.
    clients: Vec<Vec<(u32, u64)>>,
    end: Option<u64>,
}

/// Where two runs differ first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The answer to an operation.
    Answer(Label),
    /// The state in the end, though all answers were the same.
    End,
}

impl Answers {
    /// None yet, of so many clients.
    pub fn of(clients: usize) -> Answers {
        Answers { clients: vec![Vec::new(); clients], end: None }
    }

    /// Adds an answer.
    pub fn add(&mut self, label: Label, hash: u64) {
        if let Some(client) = self.clients.get_mut(label.client as usize) {
            client.push((label.op, hash));
        }
    }

    /// Sets the hash of the final state.
    pub fn end(&mut self, hash: u64) {
        self.end = Some(hash);
    }

    /// How many there are, the final state included.
    pub fn count(&self) -> u64 {
        self.clients.iter().map(Vec::len).sum::<usize>() as u64 + u64::from(self.end.is_some())
    }

    /// Where they differ first, client by client.
    pub fn first_difference(&self, other: &Answers) -> Option<Difference> {
        for (client, (mine, others)) in self.clients.iter().zip(&other.clients).enumerate() {
            let index = (0..mine.len().max(others.len())).find(|&index| mine.get(index) != others.get(index));
            if let Some(index) = index {
                let op = [mine, others].iter().filter_map(|answers| answers.get(index)).map(|answer| answer.0).min();
                return Some(Difference::Answer(Label { client: client as u32, op: op.unwrap_or(0) }));
            }
        }
        (self.end != other.end).then_some(Difference::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_and_equal_runs_have_none() {
        let label = |client, op| Label { client, op };
        let mut answers = Answers::of(2);
        for (client, op, hash) in [(0, 0, 7), (1, 0, 8), (0, 2, 9)] {
            answers.add(label(client, op), hash);
        }
        answers.end(5);
        assert_eq!((answers.count(), answers.first_difference(&answers.clone())), (4, None));
        let mut other = answers.clone();
        other.end(6);
        assert_eq!(answers.first_difference(&other), Some(Difference::End));
        other.add(label(1, 3), 1);
        assert_eq!(answers.first_difference(&other), Some(Difference::Answer(label(1, 3))));
        other.clients[0][1].1 = 0;
        assert_eq!(answers.first_difference(&other), Some(Difference::Answer(label(0, 2))));
    }
}
