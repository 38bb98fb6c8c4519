//! What each policy keeps of one KV head, step by step. No model: the attention is made up.
//!
//! `cargo run --example policy`

use llamahome::kv::{HeadSlots, Policy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let policies = [
        Policy::full(),
        Policy::window(6)?,
        Policy::streaming(2, 4)?,
        Policy::h2o(3, 3)?,
    ];
    for policy in policies {
        let mut head = HeadSlots::default();
        for position in 0..16u32 {
            head.place(position, position, 1);
            // Every fifth token is one that all later ones look at.
            let mass: Vec<f32> = head
                .positions()
                .iter()
                .map(|p| if p % 5 == 2 { 0.2 } else { 0.01 })
                .collect();
            head.step(&policy.need(), &mass);
            let seen = head.view(position as usize + 1, &[], None);
            let victim = policy.capacity().and_then(|c| policy.victim(&seen, c));
            if let Some(slot) = victim {
                head.recycle(slot, head.len());
            }
        }
        let held: Vec<u32> = head
            .held()
            .into_iter()
            .map(|(position, _)| position)
            .collect();
        println!("{:<28} {held:?}", policy.to_string());
    }
    Ok(())
}
