//! What is looked at before a certificate is ordered: one that could not be put in its place would be issued in vain.

use std::sync::Arc;

use super::deliver::blocking;
use super::rotor::Rotor;
use super::rotor::StepError;
use crate::generation::GenerationError;
use crate::room;

impl Rotor {
    /// Looks whether there is room, and whether the directory of the files takes what will be written to it.
    pub(super) async fn preflight(&mut self) -> Result<(), StepError> {
        let context = &self.context;
        let files = self.config.files.as_ref().map(|files| files.directory.as_path());
        // The CA's directory and the store lie on the same file system.
        let authority = context.authorities.issuing();
        room::check(context.room, files.into_iter().chain([authority.directory()])).map_err(StepError::Room)?;
        self.open_files_again().await?;
        match self.generations.clone() {
            Some(generations) => blocking(move || generations.preflight()).await,
            None => Ok(()),
        }
    }

    /// Opens the directory of the files if it is not open, or if another one took its place.
    pub(super) async fn open_files_again(&mut self) -> Result<(), StepError> {
        if let Some(generations) = self.generations.clone() {
            let looked = Arc::clone(&generations);
            match blocking(move || looked.look_at_place()).await {
                Ok(()) => return Ok(()),
                // Nobody reads what is in the old one any more.
                Err(StepError::Files(GenerationError::Replaced { .. })) => {}
                Err(StepError::Files(GenerationError::Io { source, .. }))
                    if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            tracing::warn!(certificate = self.name(), "the directory of the files was replaced and is opened again");
            self.generations = None;
        }
        self.open_files()
    }
}
