//! A client that may write ledgers and does not know what they are.

use super::{Run, World};

impl World {
    pub(super) fn edit(&mut self, how: u8, a: u8) {
        debug_assert!(matches!(self.run, Run { editor: true, .. }));
        let Some(stored) = self.stored.clone() else { return };
        let mut spec = stored.spec.clone();
        let names: Vec<String> = spec.entries.keys().filter(|name| **name != "seal").cloned().collect();
        let picked = (!names.is_empty()).then(|| names[usize::from(a) % names.len()].clone());
        match how % 18 {
            0 => self.backups.push(stored),
            1 => {
                // Replaces the ledger by an old state.
                let Some(backup) = self.pick_backup(a) else { return };
                self.swap(stored.version, backup);
            }
            2 => self.store(None),
            3 if a.is_multiple_of(4) => {
                // Deletes the ledger, and creates it again from an old state.
                let Some(spec) = self.pick_backup(a) else { return };
                self.versions += 1;
                let uid = format!("ledger-{}", self.versions);
                self.store(Some(super::Stored { version: self.versions, uid, generation: 1, spec }));
            }
            4 => {
                let Some(name) = picked else { return };
                spec.entries.remove(&name);
                self.swap(stored.version, spec);
            }
            5 => {
                let Some(name) = picked else { return };
                let text = ["{", "{}", "[]", ""][usize::from(a) % 4];
                spec.entries.insert(name, text.to_owned());
                self.swap(stored.version, spec);
            }
            6 => {
                let Some(name) = picked else { return };
                let text = spec.entries[&name].replace("\"peak\":{\"", "\"peak\":{\"players\":\"-3\",\"");
                spec.entries.insert(name, text);
                self.swap(stored.version, spec);
            }
            7 => {
                spec.used.insert(
                    "gameservers".to_owned(),
                    ["-5", "0", "100", "many"][usize::from(a) % 4].to_owned(),
                );
                self.swap(stored.version, spec);
            }
            8 => {
                spec.revisions.insert("ones.a.io".to_owned(), (self.revision + 1000).to_string());
                self.swap(stored.version, spec);
            }
            9 => {
                let text = r#"{"resource":"quotaledgers.policy.gatehouse.dev","namespace":"","name":"x","ticket":1,"peak":{"gameservers":"4"},"form":2}"#;
                spec.entries.insert("block-nobodys-0".to_owned(), text.to_owned());
                self.swap(stored.version, spec);
            }
            10 => {
                spec.quota_uid = "another".to_owned();
                self.swap(stored.version, spec);
            }
            11 => {
                // Removes the seal and all blocks at once.
                spec.entries.clear();
                self.swap(stored.version, spec);
            }
            12 => {
                // Removes the seal and one block.
                let Some(name) = picked else { return };
                spec.entries.remove("seal");
                spec.entries.remove(&name);
                self.swap(stored.version, spec);
            }
            13 => {
                // The seal, and what a block holds.
                let Some(name) = picked else { return };
                spec.entries.remove("seal");
                let text = spec.entries[&name].replace("\"peak\"", "\"other\"");
                spec.entries.insert(name, text);
                self.swap(stored.version, spec);
            }
            14 => {
                // The seal, and what was counted.
                spec.entries.remove("seal");
                spec.used.insert("gameservers".to_owned(), "0".to_owned());
                self.swap(stored.version, spec);
            }
            15 => {
                // Everything.
                self.swap(
                    stored.version,
                    gatehouse_apiservice::policy::QuotaLedgerSpec {
                        quota_uid: if a.is_multiple_of(2) { "quota" } else { "another" }.to_owned(),
                        ..Default::default()
                    },
                );
            }
            16 => {
                // The API server forgets earlier states.
                self.states.clear();
                self.states.extend(Some(stored));
            }
            _ => {
                // The ledger of a later version.
                let text = spec.entries.get("seal").map(|text| text.replace("\"form\":2", "\"form\":3"));
                let Some(text) = text else { return };
                spec.entries.insert("seal".to_owned(), text);
                self.swap(stored.version, spec);
            }
        }
    }

    fn pick_backup(&self, index: u8) -> Option<gatehouse_apiservice::policy::QuotaLedgerSpec> {
        let backup = self.backups.get(usize::from(index) % self.backups.len().max(1))?;
        Some(backup.spec.clone())
    }
}
