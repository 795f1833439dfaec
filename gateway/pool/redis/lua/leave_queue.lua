-- session

if leave_queue(ARGV[FIRST_ARG]) == 1 then
  hint()
end
return 1
