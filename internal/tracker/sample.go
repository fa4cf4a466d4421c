package tracker

import "math/rand/v2"

// sample picks up to k different numbers below n, without making the whole permutation if n is large.
func sample(n, k int) []int {
	k = min(n, k)
	if k <= 0 {
		return nil
	}
	if k*4 >= n {
		return rand.Perm(n)[:k]
	}
	taken := make(map[int]bool, k)
	picks := make([]int, 0, k)
	for len(picks) < k {
		if i := rand.IntN(n); !taken[i] {
			taken[i] = true
			picks = append(picks, i)
		}
	}
	return picks
}
