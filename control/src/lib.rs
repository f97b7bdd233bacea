//! The words spoken on the control socket.
