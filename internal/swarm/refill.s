// The assembler file lets refill.go declare a function without a body.
