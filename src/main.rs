//! The `llamahome` program: everything is in [`llamahome::cli`].

fn main() -> ! {
    llamahome::cli::main()
}
