//! The units among which limited resources are shared.

use std::net::IpAddr;

use crate::authn::UserInfo;

const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// Prefix length of an IPv6 network that counts as one holder: a client may use every address of its /64.
const NETWORK: u32 = 64;

/// A user or an address whose requests count together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Holder(Identity);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Identity {
    User(String),
    Network(IpAddr),
}

impl Holder {
    /// A user, on any connection, since a front proxy sends the requests of many users over few connections. All
    /// service accounts of a namespace are one holder, since a user who may create one of them may create hundreds. All
    /// anonymous users are one holder too.
    pub fn user(user: &UserInfo) -> Self {
        let account = user.name.strip_prefix(SERVICE_ACCOUNT).and_then(|account| account.split_once(':'));
        let name = account
            .map_or_else(|| user.name.clone(), |(namespace, _)| format!("{SERVICE_ACCOUNT}{namespace}"));
        Self(Identity::User(name))
    }

    /// All clients without a credential at an IPv4 address, or in the /64 network of an IPv6 address.
    pub fn address(address: IpAddr) -> Self {
        Self(Identity::Network(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> (128 - NETWORK) << (128 - NETWORK);
                IpAddr::V6(network.into())
            }
            address @ IpAddr::V4(_) => address,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Holder {
        Holder::user(&UserInfo { name: name.to_owned(), ..UserInfo::default() })
    }

    #[test]
    fn service_accounts_of_a_namespace_are_one_and_users_are_themselves() {
        assert_eq!(user("system:serviceaccount:team-a:x"), user("system:serviceaccount:team-a:y"));
        assert_ne!(user("system:serviceaccount:team-a:x"), user("system:serviceaccount:team-b:x"));
        assert_ne!(user("jane"), user("joe"));
        assert_eq!(Holder::user(&UserInfo::anonymous()), user("system:anonymous"));
    }

    #[test]
    fn an_address_is_a_network_of_ipv6_and_itself_of_ipv4() {
        let holder = |text: &str| Holder::address(text.parse().expect("an address"));
        assert_eq!(holder("2001:db8::1"), holder("2001:db8::ffff:0:0:1"));
        assert_ne!(holder("2001:db8::1"), holder("2001:db8:0:1::1"));
        assert_ne!(holder("10.0.0.1"), holder("10.0.0.2"));
        assert_eq!(holder("::ffff:10.0.0.1"), holder("10.0.0.1"));
    }
}
