-- session

if leave_queue(ARGV[OWN]) == 1 then
  hint()
end
return 1
