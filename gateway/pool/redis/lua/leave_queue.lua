-- session

if leave_queue(ARGV[FIRST_ARG]) == 1 then
  wake_waiting()
end
return 1
