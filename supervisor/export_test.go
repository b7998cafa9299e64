package supervisor

// ForgetLongest has Stats.Longest count from now on.
func ForgetLongest(s *Supervisor) {
	for i := range s.busy.worked {
		s.busy.worked[i].Store(0)
	}
}

// IsSameButForLost is what finish asks of an opened change that a node keeps.
var IsSameButForLost = isSameButForLost
