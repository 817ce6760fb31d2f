//! A caller's identity, and the names Kubernetes gives special meaning.

use std::collections::BTreeMap;

/// User of a request without credentials.
pub const ANONYMOUS_USER: &str = "system:anonymous";
/// Group of requests without credentials.
pub const UNAUTHENTICATED_GROUP: &str = "system:unauthenticated";
/// Group of requests with valid credentials.
pub const AUTHENTICATED_GROUP: &str = "system:authenticated";
/// Group that may do anything.
pub const MASTERS_GROUP: &str = "system:masters";
/// Users the HPA controller reads metrics as: with a service account of its own, and without one.
pub const HPA_CONTROLLER_USERS: [&str; 2] =
    ["system:serviceaccount:kube-system:horizontal-pod-autoscaler", "system:kube-controller-manager"];

/// Who a request is from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// User name.
    pub user: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Identifier that outlives a reuse of the name.
    pub uid: Option<String>,
    /// What else the authenticator knew; keys in lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A user in `groups`.
    pub fn new(user: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { user: user.into(), groups: groups.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS_USER, [UNAUTHENTICATED_GROUP])
    }

    /// Whether it is in `group`.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|of| of == group)
    }

    /// Whether this is the HPA controller, which adds up all items of an answer.
    pub fn is_hpa_controller(&self) -> bool {
        HPA_CONTROLLER_USERS.contains(&self.user.as_str())
    }

    /// Adds `system:authenticated`, unless the identity is that of an anonymous request which a front proxy passed on.
    pub(super) fn authenticated(mut self) -> Self {
        let settled = self.in_group(AUTHENTICATED_GROUP) || self.in_group(UNAUTHENTICATED_GROUP);
        if !settled && self.user != ANONYMOUS_USER {
            self.groups.push(AUTHENTICATED_GROUP.to_owned());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anonymous_request_passed_on_by_a_front_proxy_stays_unauthenticated() {
        assert_eq!(Identity::anonymous().authenticated(), Identity::anonymous());
        let user_only = Identity::new(ANONYMOUS_USER, [""; 0]).authenticated();
        assert!(!user_only.in_group(AUTHENTICATED_GROUP));
    }

    #[test]
    fn a_user_becomes_authenticated_once() {
        let once = Identity::new("alice", ["dev"]).authenticated();
        assert_eq!(once.groups, ["dev", AUTHENTICATED_GROUP]);
        assert_eq!(once.clone().authenticated(), once);
    }

    #[test]
    fn the_hpa_controller_is_known_by_both_of_its_names() {
        for user in HPA_CONTROLLER_USERS {
            assert!(Identity::new(user, [""; 0]).is_hpa_controller());
        }
        assert!(!Identity::new("system:serviceaccount:default:horizontal-pod-autoscaler", [""; 0]).is_hpa_controller());
    }
}
