//! Which step of a rotation is due. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::{Material, Pair};

/// What to do with the material.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before this moment.
    Keep(Timestamp),
    /// Make a new pair and serve it at once: there is none that could be served.
    Replace,
    /// Make a new pair and let its authority be trusted; serve the old one.
    Announce,
    /// Serve the announced pair.
    Adopt,
    /// Trust the old authority no longer.
    Retire,
}

/// The step that is due at `now` for a listener of `names`. Between two steps of one rotation `pause` passes: time for
/// kube-apiserver and the other replicas to take up the one before.
pub fn step(material: Option<&Material>, names: &[String], now: Timestamp, pause: Duration) -> Step {
    let Some((material, validity)) = material.and_then(|material| Some((material, material.validity()?))) else {
        return Step::Replace;
    };
    let serves_all = names.iter().filter(|name| !is_address(name)).all(|name| validity.names.contains(name));
    if !serves_all || now >= validity.until || now < validity.from {
        return Step::Replace;
    }
    let next = material.changed.checked_add(pause).unwrap_or(Timestamp::MAX);
    let is_rotating = material.announced.is_some() || !material.retiring.is_empty();
    match (is_rotating, now >= next) {
        (true, false) => Step::Keep(next),
        (true, true) if material.announced.is_some() => Step::Adopt,
        (true, true) => Step::Retire,
        (false, _) if now >= validity.renew_at() => Step::Announce,
        (false, _) => Step::Keep(validity.renew_at()),
    }
}

impl Material {
    /// The material with `new` announced.
    #[must_use]
    pub fn announcing(&self, new: Pair, now: Timestamp) -> Self {
        Self { announced: Some(new), changed: now, ..self.clone() }
    }

    /// The material with the announced pair served, and the authority of the one before still trusted.
    #[must_use]
    pub fn adopted(&self, now: Timestamp) -> Self {
        let Some(next) = self.announced.clone() else { return self.clone() };
        Self { serving: next, retiring: self.serving.authority.clone(), announced: None, changed: now }
    }

    /// The material with only the current authority trusted.
    #[must_use]
    pub fn retired(&self, now: Timestamp) -> Self {
        Self { retiring: String::new(), changed: now, ..self.clone() }
    }
}

fn is_address(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::issue;

    const DAY: Duration = Duration::from_hours(24);
    const PAUSE: Duration = Duration::from_mins(2);

    fn names() -> Vec<String> {
        vec!["wva.wva-system.svc".to_owned(), "127.0.0.1".to_owned()]
    }

    fn at(after: Duration) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + after
    }

    fn pair(after: Duration) -> Pair {
        issue(&names(), at(after), DAY).unwrap()
    }

    fn fresh() -> Material {
        Material::new(pair(Duration::ZERO), at(Duration::ZERO))
    }

    fn due(material: &Material, after: Duration) -> Step {
        step(Some(material), &names(), at(after), PAUSE)
    }

    #[test]
    fn without_anything_to_serve_a_new_pair_is_made_at_once() {
        assert_eq!(step(None, &names(), at(DAY), PAUSE), Step::Replace);
        let material = fresh();
        assert_eq!(due(&material, DAY), Step::Replace, "expired");
        let renamed = [names(), vec!["wva.elsewhere.svc".to_owned()]].concat();
        assert_eq!(step(Some(&material), &renamed, at(Duration::ZERO), PAUSE), Step::Replace, "for another name");
        let mut broken = material.clone();
        broken.serving.certificate = "?".to_owned();
        assert_eq!(due(&broken, Duration::ZERO), Step::Replace);
    }

    #[test]
    fn a_rotation_begins_with_a_third_of_the_life_left_and_takes_three_steps() {
        let mut material = fresh();
        let Step::Keep(begin) = due(&material, Duration::ZERO) else { panic!("a fresh pair is kept") };
        let begin = Duration::try_from(begin.duration_since(at(Duration::ZERO))).unwrap();
        assert!(begin > DAY / 2 && begin < DAY * 2 / 3, "{begin:?}");
        assert_eq!(due(&material, begin.saturating_sub(Duration::from_secs(1))), Step::Keep(at(begin)));

        assert_eq!(due(&material, begin), Step::Announce);
        let (old, new) = (material.serving.clone(), pair(begin));
        material = material.announcing(new.clone(), at(begin));
        assert_eq!(material.serving, old, "the old certificate is still served");
        assert!(material.trusted().contains(&old.authority) && material.trusted().contains(&new.authority));
        assert_eq!(due(&material, begin), Step::Keep(at(begin + PAUSE)));

        let adopt = begin + PAUSE;
        assert_eq!(due(&material, adopt), Step::Adopt);
        material = material.adopted(at(adopt));
        assert_eq!((&material.serving, &material.announced), (&new, &None));
        assert!(material.trusted().contains(&old.authority), "connections to other replicas may still need it");
        assert_eq!(due(&material, adopt), Step::Keep(at(adopt + PAUSE)));

        let retire = adopt + PAUSE;
        assert_eq!(due(&material, retire), Step::Retire);
        material = material.retired(at(retire));
        assert_eq!(material.trusted(), new.authority);
        assert!(matches!(due(&material, retire), Step::Keep(_)));
    }

    #[test]
    fn every_state_survives_the_secret_and_an_incomplete_one_is_none() {
        let fresh = fresh();
        let announced = fresh.announcing(pair(PAUSE), at(PAUSE));
        let adopted = announced.adopted(at(DAY));
        for material in [fresh, announced, adopted] {
            let data = material.to_secret();
            assert_eq!(Material::from_secret(&data), Some(material));
            for lost in ["ca.crt", "tls.crt", "tls.key", "changed"] {
                let mut data = data.clone();
                data.remove(lost);
                assert_eq!(Material::from_secret(&data), None, "{lost}");
            }
        }
    }

    #[test]
    fn a_private_key_is_not_shown() {
        let shown = format!("{:?}", fresh());
        assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    }
}
