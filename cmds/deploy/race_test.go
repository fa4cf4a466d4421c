//go:build race

package main

// raced: the race detector's own memory counts as resident.
const raced = true
